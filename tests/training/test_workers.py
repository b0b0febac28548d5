"""Under a strategy, training gives what it gives on one device with the same global batch."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

LIMIT = 400  # Seconds for a job; most take 20, on a machine that has nothing else to do.


def start(output, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    command = [sys.executable, "-m", "tests.training.workers", output, *arguments]
    with open(f"{output}.txt", "w") as log:
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment)


def finish(processes):
    """Exit codes; a process that goes on beyond the limit is killed."""
    try:
        return [process.wait(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def log(output):
    return output.with_suffix(".npz.txt").read_text()[-3000:]


def read(output):
    groups = {}
    with np.load(output) as file:
        for key in sorted(file.files):
            groups.setdefault(key.split("/")[0], []).append(file[key])
    return groups


def start_job(folder, count, *arguments, of_worker=None):
    """A process for each worker of a job; `of_worker` has further arguments of single ones."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = ",".join(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    outputs = [folder / f"worker{index}.npz" for index in range(count)]
    processes = [
        start(output, *arguments, "--workers", workers, "--index", index, *(of_worker or {}).get(index, ()))
        for index, output in enumerate(outputs)
    ]
    return processes, outputs


def run_job(folder, count, *arguments, of_worker=None):
    processes, outputs = start_job(folder, count, *arguments, of_worker=of_worker)
    assert finish(processes) == [0] * count, [log(output) for output in outputs]
    return [read(output) for output in outputs]


def distance(ours, theirs):
    assert [a.shape for a in ours] == [a.shape for a in theirs]
    return max(float(np.abs(a.astype("float64") - b).max()) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def one_and_mirrored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    outputs = [folder / f"{replicas}.npz" for replicas in (1, 2)]
    processes = [
        start(output, "steps", "fit", "--replicas", replicas, "--run-dir", folder / f"run{replicas}")
        for replicas, output in enumerate(outputs, 1)
    ]
    assert finish(processes) == [0, 0], [log(output) for output in outputs]
    return [read(output) for output in outputs]


@pytest.fixture(scope="module")
def one(one_and_mirrored):
    return one_and_mirrored[0]


@pytest.fixture(scope="module")
def mirrored(one_and_mirrored):
    return one_and_mirrored[1]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The results, and the run's folder of each: the second one is given another, to see that it writes nothing."""
    folder = tmp_path_factory.mktemp("two")
    run_dirs = [folder / f"run{index}" for index in range(2)]
    of_worker = {index: ["--run-dir", run_dir] for index, run_dir in enumerate(run_dirs)}
    return run_job(folder, 2, "steps", "unseeded", "fit", "without_ours", of_worker=of_worker), run_dirs


EQUAL = ("vit", "mobilevit", "sharp_average")


@pytest.mark.parametrize("name", [*EQUAL, "fit", "history"])
def test_two_replicas_train_as_one_device(one, mirrored, name):
    assert distance(mirrored[name], one[name]) < 1e-5


def test_two_replicas_with_statistics_of_their_own_do_not(one, mirrored):
    assert distance(mirrored["conv_apart"][:-2], one["conv_apart"][:-2]) > 1e-3


@pytest.mark.parametrize("name", [*EQUAL, "fit", "history"])
def test_two_workers_train_as_one_device(one, two_workers, name):
    for worker in two_workers[0]:
        assert distance(worker[name], one[name]) < 1e-5


def test_the_chief_alone_writes_the_run(two_workers):
    chief, other = two_workers[1]
    names = {"run.json", "log.csv", "tensorboard", "best.keras", "checkpoint.safetensors"}
    assert {path.name for path in chief.iterdir()} == names
    assert not other.exists()


@pytest.mark.slow
def test_three_workers_train_as_one_device(one, tmp_path):
    for worker in run_job(tmp_path, 3, "steps"):
        for name in EQUAL:
            assert distance(worker[name], one[name]) < 1e-5


@pytest.mark.parametrize("name", ["unseeded_vit", "unseeded_conv"])
def test_workers_that_draw_their_own_numbers_keep_equal_weights(two_workers, name):
    first, second = (worker[name] for worker in two_workers[0])
    assert distance(first, second) == 0
    assert all(np.isfinite(array).all() for array in first)


def test_keras_still_needs_our_multi_worker_strategy(two_workers):
    """Where this fails, Keras' trainer has learned it: then keras_vit.training.mirrored can go."""
    for worker in two_workers[0]:
        whole_batch, scalar = worker["without_ours"][0]
        assert "PerReplica" in whole_batch
        assert scalar


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_continues_to_the_same_end(tmp_path):
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
