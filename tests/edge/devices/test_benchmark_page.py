import re

import numpy as np
import pytest

from keras_vit.cli.main import main
from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks
from keras_vit.edge.devices.benchmark_page import write_benchmark_page
from keras_vit.edge.devices.measuring import Moment
from keras_vit.edge.devices.profiling import profile


def test_a_page_has_all_that_was_measured(tmp_path, vit_file):
    random = np.random.default_rng(0)
    moments = [Moment(float(at), 10.0 + 2 * (at > 60), 50.0 + at / 10, None, None) for at in range(120)]
    facts = {"board": "Board <X> & Co", "cores": 4, "before": {"temperature_c": 50.0}}
    results = Benchmarks(
        Benchmark(f"<{name}>.tflite", "local", 1, "runtime 1", 30.0, None, list(random.gamma(9, ms, 200)), facts=facts)
        for name, ms in (("a", 1.0), ("b", 0.5))
    )
    results.append(Benchmark("c.tflite", "local", 1, "runtime 1", 30.0, None, [9.0] * 20, sustained=moments))
    accuracies = {"<a>.tflite": 40.0, "<b>.tflite": 20.0}
    write_benchmark_page(tmp_path / "page.html", results, accuracies, [profile(vit_file, runs=5, roofline=False)])
    text = (tmp_path / "page.html").read_text()
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings[:3] == ["Times", "Accuracy against latency", "Distributions"]
    assert "Sustained load: c.tflite" in headings and any(
        heading.startswith("Where the time goes") for heading in headings
    )
    assert text.count("<img ") == 4 and "Board &lt;X&gt; &amp; Co" in text and "<a>" not in text
    assert re.search(r"slower for good from (5[5-9]|6\d) s", text)
    # It loads nothing.
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


def test_the_command_writes_a_page(tmp_path, tflite_files, capsys):
    page = tmp_path / "page.html"
    assert main(["benchmark", tflite_files["float32"], "--runs", "10", "--warmup", "0", "--html", str(page)]) == 0
    assert "float32.tflite" in page.read_text()
    with pytest.raises(ValueError, match="no benchmarks"):
        write_benchmark_page(page, Benchmarks())
