"""Check that training under a strategy gives the same result as on one device with the same global batch."""

import signal
from functools import partial

import numpy as np
import pytest

from tests.training.distribution import jobs
from tests.training.distribution.jobs import distance, finish, log
from tests.training.distribution.workers import BATCH, pictures

PROGRAM = "tests.training.distribution.workers"
run, start_job, run_job = (partial(function, PROGRAM) for function in (jobs.run, jobs.start_job, jobs.run_job))

EQUAL = ("vit", "mobilevit", "sharp_average")


@pytest.mark.long
def test_two_workers_train_as_one_device(tmp_path):
    """Train two models in one test to share the processes; `test_replicas` trains other models on two replicas."""
    one = run(tmp_path, "vit")
    workers = run_job(tmp_path, 2, "vit", "unseeded_conv")
    for worker in workers:
        assert distance(worker["vit"], one["vit"]) < 1e-5
    check_unseeded(workers, "unseeded_conv")


@pytest.mark.slow
def test_tensorflow_strategies_do_not_work_with_keras_unmodified(tmp_path):
    # If this fails, Keras supports these strategies, and keras_vit.training.distribution.mirrored can be removed.
    for worker in run_job(tmp_path, 2, "without_ours"):
        whole_batch, scalar = worker["without_ours"][0]
        assert "PerReplica" in whole_batch
        assert scalar


def check_unseeded(workers, name):
    """Check that workers that draw different random numbers keep the same weights."""
    assert distance(*(worker[name] for worker in workers)) == 0
    assert all(np.isfinite(array).all() for array in workers[0][name])


@pytest.mark.slow
def test_replicas_train_as_one_device(tmp_path):
    one = run(tmp_path, *EQUAL, "conv_apart")
    mirrored = run(tmp_path, *EQUAL, "conv_apart", "--replicas", "2")
    for name in EQUAL:
        assert distance(mirrored[name], one[name]) < 1e-5, name
    # Replicas that normalize with the statistics of their own part of the batch give another result.
    assert distance(mirrored["conv_apart"][:-2], one["conv_apart"][:-2]) > 1e-3


@pytest.mark.slow
def test_plain_fit_averages_the_statistics_of_the_workers(tmp_path):
    workers = run_job(tmp_path, 2, "moving_statistics", "unseeded_vit")
    check_unseeded(workers, "unseeded_vit")
    images = 4 * pictures()[0] - 2
    mean, variance = np.zeros(3), np.ones(3)
    for batch in images.reshape(-1, BATCH, *images.shape[1:]):
        halves = batch.reshape(2, -1, 3)
        mean = 0.5 * mean + 0.5 * halves.mean(axis=(0, 1))
        variance = 0.5 * variance + 0.5 * halves.var(axis=1).mean(axis=0)
    for worker in workers:
        assert distance(worker["moving_statistics"], [mean, variance]) < 1e-5
    assert distance(workers[0]["evaluation"], workers[1]["evaluation"]) == 0


@pytest.mark.slow
def test_fit_under_a_strategy_gives_the_same_result_as_on_one_device(tmp_path):
    for name in ("one", "mirrored", "workers"):
        (tmp_path / name).mkdir()
    one = run(tmp_path / "one", "fit", "--run-dir", tmp_path / "one" / "run")
    mirrored = run(tmp_path / "mirrored", "fit", "--replicas", "2", "--run-dir", tmp_path / "mirrored" / "run")
    # The second worker gets another folder, to check that it writes nothing.
    run_dirs = [tmp_path / "workers" / f"run{index}" for index in range(2)]
    of_worker = {index: ["--run-dir", run_dir] for index, run_dir in enumerate(run_dirs)}
    workers = run_job(tmp_path / "workers", 2, "fit", of_worker=of_worker)
    for other in (mirrored, *workers):
        for name in ("fit", "history"):
            assert distance(other[name], one[name]) < 1e-5, name
    names = {"run.json", "run.lock", "log.csv", "tensorboard", "best.keras", "checkpoint.safetensors"}
    assert {path.name for path in run_dirs[0].iterdir()} == names
    assert not run_dirs[1].exists()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_workers_train_as_one_device(count, tmp_path):
    one = run(tmp_path, *EQUAL)
    for worker in run_job(tmp_path, count, *EQUAL):
        for name in EQUAL:
            assert distance(worker[name], one[name]) < 1e-5, name


@pytest.mark.slow
def test_a_job_resumes_to_the_same_result_after_a_worker_was_killed(tmp_path):
    folders = [tmp_path / name for name in ("whole", "killed", "resumed")]
    for folder in folders:
        folder.mkdir()
    whole = run_job(folders[0], 2, "fit_with_dropout", "--run-dir", tmp_path / "run")

    run_dir = tmp_path / "run_killed"
    processes, outputs = start_job(
        folders[1], 2, "fit_with_dropout", "--run-dir", run_dir, of_worker={1: ["--kill-at", 26]}
    )
    codes = finish(processes)
    assert codes[1] == -signal.SIGKILL and codes[0] != 0, [log(output) for output in outputs]
    resumed = run_job(folders[2], 2, "fit_with_dropout", "--run-dir", run_dir, "--resume")

    for worker in (whole[1], *resumed):
        assert distance(worker["fit"], whole[0]["fit"]) < 1e-5
        assert distance(worker["history"], whole[0]["history"]) < 1e-5
    assert sorted(path.name for path in run_dir.iterdir()) == sorted(path.name for path in (tmp_path / "run").iterdir())
