"""Check that training with XLA and on replicas gives the same result as on one device with the whole batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.distribution.replicas import CASES, SLOW, WITH_XLA

# These differ by design: each replica has its own perturbation, and Keras clips the gradients of each replica.
DIFFERENT = ("SAM of each replica", "Keras' clipping")


def of_program(names):
    program = Path(__file__).with_name("replicas.py")
    result = subprocess.run([sys.executable, program, *names], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def distances():
    return of_program([name for name in CASES if name not in SLOW])


@pytest.mark.long
@pytest.mark.parametrize("name", [*(name for name in CASES if name not in SLOW), "SAM of each half"])
def test_replicas_give_the_same_result(distances, name):
    if name in DIFFERENT:
        assert distances[name]["replicas"] > 1e-4
    else:
        assert distances[name]["replicas"] < 1e-5


@pytest.mark.parametrize("how", ["apart", "synchronized"])
def test_plain_fit_averages_moving_statistics_over_the_replicas(distances, how):
    # The values are about 20 and 60.
    assert distances[f"moving statistics, {how}"]["replicas"] < 1e-4


@pytest.mark.parametrize("name", [name for name in WITH_XLA if name not in SLOW])
def test_xla_gives_the_same_result(distances, name):
    assert distances[name]["xla"] < 1e-5


@pytest.mark.slow
def test_other_optimizers_and_steps_give_the_same_result():
    for name, ways in of_program(SLOW).items():
        assert max(ways.values()) < 1e-5, name
