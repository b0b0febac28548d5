import json
import os
import signal

import numpy as np
import pytest

from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks, benchmark
from keras_vit.edge.devices.interpreter import Interpreter


def _measured(samples, file="model.tflite", memory=12.5):
    return Benchmark(file, "local", 1, "runtime 1.0", 30.0, memory, samples)


def test_percentiles_are_numpys():
    samples = list(np.random.default_rng(0).gamma(2.0, size=101))
    result = _measured(samples)
    wanted = np.percentile(samples, [50, 90, 99])
    np.testing.assert_allclose([result.p50_ms, result.p90_ms, result.p99_ms], wanted)
    assert result.p50_ms == np.median(samples)


def test_one_file_is_measured(tflite_files):
    result = benchmark(tflite_files["float32"], runs=7, warmup=2, threads=2)
    assert len(result.samples_ms) == 7
    assert all(0 < sample < 1000 for sample in result.samples_ms)
    assert result.file == tflite_files["float32"]
    assert (result.device, result.threads) == ("local", 2)
    assert result.runtime.startswith("ai-edge-litert ")
    assert result.init_ms > 0


@pytest.mark.parametrize("name", ["int8", "dynamic_batch", "int8_softmax"])
def test_inputs_of_every_kind_are_filled(tflite_files, name):
    assert len(benchmark(tflite_files[name], runs=2, warmup=0).samples_ms) == 2


def test_memory_is_that_of_the_file(tflite_files):
    small, large = benchmark([tflite_files["float32"], tflite_files["8_megabytes"]], runs=1, warmup=0)
    assert large.peak_memory_mb > 8
    assert small.peak_memory_mb < large.peak_memory_mb - 6


def test_several_files_take_turns_and_the_first_one_changes(tflite_files, monkeypatch):
    order = []

    class Recorder(Interpreter):
        def request(self, command, **arguments):
            if command == "invoke":
                order.append(files.index(self.file))
            return super().request(command, **arguments)

    files = [tflite_files[name] for name in ("float32", "float16", "int8")]
    monkeypatch.setitem(benchmark.__globals__, "open_file", Recorder)
    results = benchmark(files, runs=4, warmup=2)
    assert order[:3] == [0, 1, 2]  # The first results.
    rounds = [order[3:][i : i + 3] for i in range(0, len(order) - 3, 3)]
    assert rounds == [[0, 1, 2], [1, 2, 0], [2, 0, 1]] * 2
    assert [result.file for result in results] == files
    assert all(len(result.samples_ms) == 4 for result in results)


def test_results_go_through_json_unchanged(tflite_files):
    results = benchmark([tflite_files["float32"], tflite_files["int8"]], runs=3, warmup=0)
    facts = results.to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["benchmarks"][1] == results[1].to_dict()
    assert facts["benchmarks"][0]["p50_ms"] == results[0].p50_ms


def test_one_file_prints_as_a_table_and_several_against_the_first():
    fast, slow = _measured([2.0, 2.0], "a/fast.tflite"), _measured([5.0, 5.0], "a/slow.tflite", memory=None)
    lines = str(slow).splitlines()
    assert lines[0].split() == ["file", "p50", "ms", "p90", "ms", "p99", "ms", "init", "ms", "memory", "MB"]
    assert lines[2].split() == ["slow.tflite", "5.00", "5.00", "5.00", "30.00", "-"]
    lines = str(Benchmarks([slow, fast])).splitlines()
    assert lines[0].endswith("speed")
    assert lines[2].split()[-1] == "1.00x"
    assert lines[3].split()[0] == "fast.tflite"
    assert lines[3].split()[-1] == "2.50x"


@pytest.mark.parametrize("name", ["truncated", "empty", "missing"])
def test_the_file_that_cannot_be_measured_is_named(tflite_files, broken_files, name):
    with pytest.raises((ValueError, FileNotFoundError), match=f"{name}.tflite"):
        benchmark([tflite_files["float32"], broken_files[name]], runs=1)


def test_a_file_that_the_runtime_cannot_run_is_named(tflite_files):
    with pytest.raises(ValueError, match=r"flex\.tflite"):
        benchmark([tflite_files["float32"], tflite_files["flex"]], runs=1)


def test_the_file_that_crashes_is_named(tflite_files, monkeypatch):
    class Crashing(Interpreter):
        def request(self, command, **arguments):
            if command == "invoke" and self.file == tflite_files["int8"]:
                os.kill(self._process.pid, signal.SIGKILL)
                self._process.wait()
            return super().request(command, **arguments)

    monkeypatch.setitem(benchmark.__globals__, "open_file", Crashing)
    with pytest.raises(RuntimeError, match=r"int8\.tflite.*SIGKILL"):
        benchmark([tflite_files["float32"], tflite_files["int8"]], runs=1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"device": "adb:1"}, "'local'; received 'adb:1'"),
        ({"runs": 0}, "runs must be at least 1; received 0"),
        ({"warmup": -1}, "warmup must be at least 0; received -1"),
        ({"threads": 0}, "threads must be at least 1; received 0"),
    ],
)
def test_wrong_arguments_are_refused(tflite_files, arguments, words):
    with pytest.raises(ValueError, match=words):
        benchmark(tflite_files["float32"], **arguments)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="empty"):
        benchmark([])
