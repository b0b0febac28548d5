"""A long measurement that Ctrl-C interrupts, as in a terminal, where every process of the command receives it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from keras_vit import edge

pytestmark = pytest.mark.device

# The runs of `--mlperf`, and fewer seconds.
RUNS, SECONDS = 1024, 1.0
SCRIPT = f"""
import signal, sys
from keras_vit import edge
# A shell lets what it starts in the background ignore interruptions.
signal.signal(signal.SIGINT, signal.default_int_handler)
edge.benchmark(
    sys.argv[2:], runs={RUNS}, seconds={SECONDS}, resume=sys.argv[1], progress=lambda done: print(done, flush=True)
)
"""


def interrupted(journal, files, rounds):
    """Measure files, interrupt that after some rounds, and return the samples that the journal holds."""
    command = [sys.executable, "-c", SCRIPT, str(journal), *files]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(rounds):
        assert f"of {RUNS} runs" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    return [entry["ms"] for entry in json.loads(journal.read_text())["samples"]]


def test_five_files_go_on_without_losing_samples(tflite_files, tmp_path):
    files = [tflite_files[name] for name in ("float32", "float16", "int8", "many_outputs", "8_megabytes")]
    journal = tmp_path / "samples.json"
    first = interrupted(journal, files, 4)
    assert all(len(samples) >= 4 for samples in first)
    second = interrupted(journal, files, 4)
    results = edge.benchmark(files, runs=RUNS, seconds=SECONDS, resume=journal)
    for a, b, result in zip(first, second, results, strict=True):
        assert len(b) >= len(a) + 4 and b[: len(a)] == a
        assert result.samples_ms[: len(b)] == b
        assert len(result.samples_ms) >= RUNS and sum(result.samples_ms) >= SECONDS * 1e3
        assert sum(result.turns) == len(result.samples_ms) and len(result.turns) == len(results[0].turns)
    assert not journal.exists()
