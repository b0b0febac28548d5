import json

import numpy as np
import pytest

from keras_vit.cli.main import main
from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks
from keras_vit.edge.devices.comparison import compare, load_benchmarks


def run(seed=0, device="local", **latencies):
    """A run of files with given medians and 2 % of noise."""
    generator = np.random.default_rng(seed)
    return Benchmarks(
        Benchmark(f"{name}.tflite", device, 1, "runtime 1.0", 30.0, None, list(ms * generator.normal(1, 0.02, 200)))
        for name, ms in latencies.items()
    )


def test_each_file_gets_a_verdict():
    result = compare(run(a=10.0, b=10.0, c=10.0, d=1.0), run(1, a=11.5, b=10.1, c=8.0, e=1.0))
    assert [change.verdict for change in result.changes] == ["slower", "same", "faster"]
    assert result.changes[0].ratio == pytest.approx(1.15, abs=0.01)
    assert result.slower and result.unmatched == ["d.tflite", "e.tflite"]
    assert not compare(run(a=10.0), run(1, a=11.5), tolerance=0.2).slower


@pytest.mark.parametrize(
    "new, words",
    [({"z": 1.0}, "no file in common"), ({"a": 1.0, "device": "gpu"}, "with device 'local' and 'gpu'")],
)
def test_what_cannot_be_compared_is_refused(new, words):
    with pytest.raises(ValueError, match=words):
        compare(run(a=1.0), run(1, **new))


def test_the_command_fails_when_a_file_became_slower(tmp_path, capsys):
    for name, ms in (("old", 10.0), ("same", 10.0), ("slow", 11.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(run(len(name), a=ms).to_dict()))
    old, same, slow = (str(tmp_path / f"{name}.json") for name in ("old", "same", "slow"))
    assert main(["benchmark", "--compare", old, same]) == 0
    assert "same" in capsys.readouterr().out
    assert main(["benchmark", "--compare", old, slow, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["changes"][0]["verdict"] == "slower"
    assert main(["benchmark", "--compare", old]) == 1
    assert "takes two .json files" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"benchmarks": [{"file": "a"}]}')
    with pytest.raises(ValueError, match=r"x\.json is not a file of benchmarks"):
        load_benchmarks(tmp_path / "x.json")
