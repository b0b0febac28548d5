import hashlib
import json
import os
import signal
from pathlib import Path

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
            if command == "time":
                order.append(files.index(self.file))
            return super().request(command, **arguments)

    files = [tflite_files[name] for name in ("float32", "float16", "int8")]
    monkeypatch.setitem(benchmark.__globals__, "open_file", lambda file, *_: Recorder(file))
    results = benchmark(files, runs=20, warmup=0)
    rounds = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert len(rounds) > 10 and rounds == ([[0, 1, 2], [1, 2, 0], [2, 0, 1]] * len(rounds))[: len(rounds)]
    assert [result.file for result in results] == files
    assert all(len(result.samples_ms) >= 20 for result in results)
    assert len({tuple(result.turns) for result in results}) == 1
    assert all(sum(result.turns) == len(result.samples_ms) for result in results)


def test_results_go_through_json_unchanged(tflite_files):
    results = benchmark([tflite_files["float32"], tflite_files["int8"]], runs=3, warmup=0)
    facts = results.to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["benchmarks"][1] == results[1].to_dict()
    assert facts["benchmarks"][0]["p50_ms"] == results[0].p50_ms


def test_one_file_prints_as_a_table_and_several_against_the_first():
    fast, slow = _measured([2.0, 2.0], "a/fast.tflite"), _measured([5.0, 5.0], "a/slow.tflite", memory=None)
    lines = str(slow).splitlines()
    assert lines[0].split() == ["file", "p50", "ms", "±", "ms", "p90", "ms", "p99", "ms", "init", "ms", "memory", "MB"]
    assert lines[2].split() == ["slow.tflite", "5.00", "0.00", "5.00", "5.00", "30.00", "-"]
    lines = str(Benchmarks([slow, fast])).splitlines()
    assert lines[0].split()[-3:] == ["speed", "95", "%"]
    assert lines[2].split()[-2:] == ["1.00x", "-"]
    assert lines[3].split()[0] == "fast.tflite"
    assert lines[3].split()[-2:] == ["2.50x", "-"]


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
            if command == "time" and self.file == tflite_files["int8"]:
                os.kill(self.link.process.pid, signal.SIGKILL)
                self.link.process.wait()
            return super().request(command, **arguments)

    monkeypatch.setitem(benchmark.__globals__, "open_file", lambda file, *_: Crashing(file))
    with pytest.raises(RuntimeError, match=r"int8\.tflite.*SIGKILL"):
        benchmark([tflite_files["float32"], tflite_files["int8"]], runs=1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"device": "toaster"}, "device must be one of 'local', .*; received 'toaster'"),
        ({"runs": 0}, "runs must be at least 1; received 0"),
        ({"warmup": -1}, "warmup must be at least 0; received -1"),
        ({"seconds": -1}, "seconds must be at least 0; received -1"),
        ({"cores": [999]}, r"There are no cores \[999\]"),
        ({"threads": 0}, "threads must be at least 1; received 0"),
    ],
)
def test_wrong_arguments_are_refused(tflite_files, arguments, words):
    with pytest.raises(ValueError, match=words):
        benchmark(tflite_files["float32"], **arguments)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="empty"):
        benchmark([])


def test_a_benchmark_is_read_back_from_json(tflite_files):
    result = benchmark(tflite_files["float32"], runs=12, warmup=0)
    again = Benchmark.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    with pytest.raises(ValueError, match="schema 99"):
        Benchmark.from_dict({**result.to_dict(), "schema": 99})


def test_a_benchmark_says_what_was_measured_and_where(tflite_files):
    result = benchmark(tflite_files["float32"], runs=2, warmup=0, cores=[0])
    assert result.file_sha256 == hashlib.sha256(Path(tflite_files["float32"]).read_bytes()).hexdigest()
    assert result.file_bytes == os.path.getsize(tflite_files["float32"])
    assert result.init_ms == result.load_ms + result.first_ms
    assert result.cores == (0,) and result.facts["cores"] == os.cpu_count()
    assert {"before", "after", "cpu", "governor", "system"} <= result.facts.keys()


def test_an_interrupted_measurement_goes_on_without_losing_samples(tflite_files, tmp_path, monkeypatch):
    files, journal = [tflite_files["float32"], tflite_files["int8"]], tmp_path / "journal.json"

    class Interrupted(Interpreter):
        rounds = 0

        def request(self, command, **arguments):
            if command == "time" and self.file == files[1]:
                Interrupted.rounds += 1
                if Interrupted.rounds == 4:
                    raise KeyboardInterrupt
            return super().request(command, **arguments)

    with monkeypatch.context() as patched:
        patched.setitem(benchmark.__globals__, "open_file", lambda file, *_: Interrupted(file))
        with pytest.raises(KeyboardInterrupt):
            benchmark(files, runs=40, warmup=0, resume=journal)
    kept = [entry["ms"] for entry in json.loads(journal.read_text())["samples"]]
    assert len(kept[0]) == len(kept[1]) >= 3  # Whole rounds.
    results = benchmark(files, runs=40, warmup=0, resume=journal)
    assert all(result.samples_ms[: len(old)] == old for result, old in zip(results, kept, strict=True))
    assert all(len(result.samples_ms) >= 40 for result in results)
    assert not journal.exists()


def test_samples_of_another_measurement_are_refused(tflite_files, tmp_path):
    journal = tmp_path / "journal.json"
    journal.write_text(json.dumps({"subject": {"files": ["other"]}, "samples": [{"ms": [1.0], "turns": [1]}]}))
    with pytest.raises(ValueError, match="has samples with other files"):
        benchmark(tflite_files["float32"], runs=2, resume=journal)
    journal.write_text("[]")
    with pytest.raises(ValueError, match="does not hold samples"):
        benchmark(tflite_files["float32"], runs=2, resume=journal)


def test_a_device_that_computes_other_outputs_is_found_out(tflite_files, monkeypatch):
    """A float16 file on a GPU that is forced to float32 is "fully accelerated", and computes garbage."""

    class Garbage(Interpreter):
        def run(self, values):
            return [np.random.default_rng(1).standard_normal(output.shape) for output in super().run(values)]

    def opened(file, threads, device="local", cores=()):
        return Interpreter(file) if device == "local" else Garbage(file, device=device)

    monkeypatch.setitem(benchmark.__globals__, "open_file", opened)
    with pytest.raises(ValueError, match=r"float32\.tflite: ssh://board computes other outputs .*dB"):
        benchmark(tflite_files["float32"], "ssh://board", runs=1)
