"""Training without labels on two replicas, or on two workers, gives the result of one device with the whole batch."""

import pytest

from tests.training.distribution.jobs import distance, run, run_job
from tests.training.self_supervised.replicas import CASES

PROGRAM = "tests.training.self_supervised.replicas"


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run(PROGRAM, tmp_path_factory.mktemp("one"), *CASES)


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory):
    return run(PROGRAM, tmp_path_factory.mktemp("replicas"), *CASES, "--replicas", 2)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    return run_job(PROGRAM, tmp_path_factory.mktemp("workers"), 2, *CASES)


@pytest.mark.slow
@pytest.mark.parametrize("method", CASES)
def test_two_replicas_give_the_result_of_one_device(one_device, two_replicas, method):
    """The masks, the teacher and the center are those of the whole batch."""
    assert distance(two_replicas[method], one_device[method]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("method", CASES)
def test_two_workers_give_the_result_of_one_device(one_device, two_workers, method):
    for worker in two_workers:
        assert distance(worker[method], one_device[method]) < 1e-5
