"""Training without labels on two replicas gives the result of one device with the whole batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("mae", "dino", "tokenizer", "beit", "instance_discrimination")


@pytest.fixture(scope="module")
def distances():
    program = Path(__file__).with_name("replicas.py")
    result = subprocess.run([sys.executable, program, *METHODS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_replicas_give_the_result_of_one_device(distances, method):
    """The masks, the teacher and the center are those of the whole batch."""
    assert distances[method] < 1e-5
