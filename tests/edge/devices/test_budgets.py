"""Latency budgets: their file, their decisions on played measurements, and the pytest plugin."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from keras_vit.edge.devices import budgets
from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks
from keras_vit.edge.devices.budgets import Budget, check_budget, load_budgets
from tests.docs.pages import ROOT


class Machine:
    """A machine with a noisy neighbor, which measures files in turn.

    For some turns it is up to 60 % slower, each process is a percent faster or slower than the next, and each
    invocation has noise of its own.
    """

    def __init__(self, seed, **latencies):
        self.latencies, self.attempts = latencies, 0
        self._random = np.random.default_rng(seed)

    def measure(self, files, device, *, threads, runs, seconds, launches):
        self.attempts += 1
        size = 5
        rounds = max(runs // size, 20)
        busy = np.repeat(self._random.random(rounds // 4 + 1) < 0.4, 4)[:rounds]
        machine = 1 + busy * self._random.uniform(0.1, 0.6, rounds)
        results = Benchmarks()
        for file in files:
            # The neighbor comes and goes within a round as well.
            level = self.latencies[os.path.basename(file).partition(".")[0]] * self._random.normal(1, 0.01)
            turn = level * machine * self._random.normal(1, 0.03, rounds)
            samples = np.repeat(turn, size) * (1 + 0.02 * self._random.gamma(2, size=rounds * size))
            results.append(Benchmark(file, device, threads, "played", 30.0, None, list(samples), [size] * rounds))
        return results


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(budgets, "_PAUSE_S", 0)


RATIO = Budget("new.tflite", than="old.tflite", ratio=1.07)


def test_a_slower_file_is_caught_and_a_good_one_is_not_blamed():
    caught = [not check_budget(RATIO, measure=Machine(seed, old=8.0, new=9.2).measure).kept for seed in range(40)]
    blamed = [not check_budget(RATIO, measure=Machine(seed, old=8.0, new=8.0).measure).kept for seed in range(40)]
    assert sum(caught) == 40 and sum(blamed) == 0


def test_an_absolute_budget_is_kept_if_one_attempt_keeps_it():
    budget = Budget("new.tflite", {"p50_ms": 9.0})
    quiet, slow = Machine(0, new=8.0), Machine(0, new=11.0)
    slow_at_first = Machine(0, new=8.0)

    def measure(*arguments, **named):
        slow_at_first.latencies["new"] = 16.0 if slow_at_first.attempts < 2 else 7.0
        return slow_at_first.measure(*arguments, **named)

    assert check_budget(budget, measure=quiet.measure).kept or quiet.attempts > 1
    assert not check_budget(budget, measure=slow.measure).kept and slow.attempts == 4
    outcome = check_budget(budget, measure=measure)
    assert outcome.kept and outcome.attempts == 3
    assert str(outcome).startswith("new.tflite: p50_ms is ") and str(outcome).endswith("(3 attempts on local)")


def test_what_a_device_does_not_report_is_no_kept_budget():
    with pytest.raises(ValueError, match="local does not report peak_memory_mb"):
        check_budget(Budget("new.tflite", {"peak_memory_mb": 5}), measure=Machine(0, new=1.0).measure)


def test_the_file_of_budgets_is_read(tmp_path):
    path = tmp_path / "budgets.yaml"
    path.write_text(
        "budgets:\n"
        "  - {file: build/int8.tflite, p50_ms: 9.5, p99_ms: 12, device: 'ssh://pi@board', threads: 4}\n"
        "  - {file: build/int8.tflite, than: build/float32.tflite, ratio: 0.6}\n"
    )
    absolute, relative = load_budgets(path)
    assert absolute.file == str(tmp_path / "build/int8.tflite") and absolute.threads == 4
    assert absolute.limits == {"p50_ms": 9.5, "p99_ms": 12} and absolute.device == "ssh://pi@board"
    assert (relative.than, relative.ratio) == (str(tmp_path / "build/float32.tflite"), 0.6)
    assert relative.name == "int8.tflite: ratio<=0.6 to float32.tflite"


@pytest.mark.parametrize(
    "content, words",
    [
        ("budgets: {", "is not a YAML file"),
        ("[]", "needs a list `budgets`"),
        ("budgets: []", "at least one entry"),
        ("budgets: [{p50_ms: 1}]", "budget 1: needs a `file`"),
        ("budgets: [{file: a}]", "budget 1: sets no limit"),
        ("budgets: [{file: a, p50: 1}]", "does not know 'p50'; known are device, file, init_ms"),
        ("budgets: [{file: a, p50_ms: fast}]", "p50_ms must be a number above 0; received 'fast'"),
        ("budgets: [{file: a, ratio: 1.1}]", "belong together"),
        ("budgets: [{file: a, p50_ms: -1}]", "above 0"),
    ],
)
def test_a_wrong_budget_is_refused(tmp_path, content, words):
    path = tmp_path / "budgets.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        load_budgets(path)


def pytest_with(folder, *arguments):
    plugin = "keras_vit.edge.devices.latency_plugin"
    command = [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_plugin_makes_a_test_of_each_budget(tmp_path, tflite_files):
    for name in ("float32", "8_megabytes"):
        shutil.copy(tflite_files[name], tmp_path)
    (tmp_path / "test_other.py").write_text("def test_other(): raise AssertionError('not asked for')")
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--mine')")
    (tmp_path / "budgets.yaml").write_text(
        "budgets:\n"
        "  - {file: float32.tflite, p50_ms: 1000, runs: 20, seconds: 0.01}\n"
        "  - {file: 8_megabytes.tflite, than: float32.tflite, ratio: 1.5, runs: 20, seconds: 0.01}\n"
        "  - {file: missing.tflite, p50_ms: 1, device: 'ssh://board'}\n"
    )
    result = pytest_with(tmp_path, "--latency", "budgets.yaml", "--device", "local")
    assert "1 failed, 1 passed" in result.stdout, result.stdout + result.stderr
    assert "8_megabytes.tflite takes" in result.stdout and "Traceback" not in result.stdout
    assert "times as long as float32.tflite" in result.stdout and "test_other" not in result.stdout


def test_the_plugin_says_what_is_wrong(tmp_path):
    assert "there is no file 'none.yaml'" in pytest_with(tmp_path, "--latency", "none.yaml").stderr
    (tmp_path / "budgets.yaml").write_text("budgets: [{file: a, p50_ms: 1, device: gpu}]")
    result = pytest_with(tmp_path, "--latency=budgets.yaml")
    assert result.returncode and "has no budget for the device 'local'" in result.stdout
    result = pytest_with(tmp_path, "--latency=budgets.yaml", "--device=toaster")
    assert result.returncode and "received 'toaster'" in result.stdout


def test_the_plugin_stays_out_of_other_runs(tmp_path):
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--device')")
    (tmp_path / "budgets.yaml").write_text("budgets: []")
    (tmp_path / "test_one.py").write_text("def test_one(pytestconfig): assert pytestconfig.getoption('device') == 'tv'")
    assert "1 passed" in pytest_with(tmp_path, "--device", "tv").stdout


def test_the_example_has_the_form_of_budgets_and_runs_commands_that_exist():
    folder = ROOT / "examples" / "latency"
    assert {budget.device for budget in load_budgets(folder / "budgets.yaml")} == {None, "ssh://pi@raspberrypi"}
    steps = yaml.safe_load((folder / "latency.yml").read_text())["jobs"]["latency"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert "keras-vit devices ssh://pi@raspberrypi" in commands
    (test,) = [command for command in commands if command.startswith("pytest")]
    assert "--latency examples/latency/budgets.yaml --device ssh://pi@raspberrypi" in test
