"""The manifests in examples/: scripts for Slurm, Kubernetes and TPUs, tested as far as possible without a cluster."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from keras_vit.training.distribution.cluster import worker_of_environment
from tests.docs.pages import ROOT

EXAMPLES = ROOT / "examples"


def kubernetes_objects():
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "train.yaml").read_text()))


def program(folder, name, script):
    """Write a shell script that replaces a program."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def path_with(folder):
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("script", [EXAMPLES / "slurm" / "train.sbatch", EXAMPLES / "tpu" / "train.sh"], ids=str)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_kubernetes_objects_are_valid():
    kinds = []
    for described in kubernetes_objects():
        kubernetes_validate.validate(described, "1.30", strict=True)
        kinds.append(described["kind"])
    assert kinds == ["Service", "Job"]


def test_the_workers_of_the_kubernetes_job_find_each_other(tmp_path):
    service, job = kubernetes_objects()
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program(tmp_path, "keras-vit", 'printf "%s\\n" "$TF_CONFIG" "$@"')
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count and job["spec"]["completionMode"] == "Indexed"
    # A pod of an indexed job is called JOB-INDEX, and its subdomain must be the headless service.
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    names = tuple(f"{job['metadata']['name']}-{index}.{service['metadata']['name']}:12345" for index in range(count))

    environment = {given["name"]: given["value"] for given in container["env"]}
    environment |= {"PATH": path_with(tmp_path), "RUN": str(tmp_path)}
    for index in range(count):
        printed = subprocess.run(
            [*container["command"], *container["args"]],
            env={**environment, "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        worker = worker_of_environment({"TF_CONFIG": printed[0]})
        assert (worker.workers, worker.index) == (names, index)
        assert printed[1:] == f"train --recipe deit_s16 --data {environment['DATA']} --run-dir {tmp_path}".split()

    (tmp_path / "checkpoint.safetensors").touch()
    again = subprocess.run(
        [*container["command"], *container["args"]],
        env={**environment, "JOB_COMPLETION_INDEX": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.splitlines()[-1] == "--resume"


def test_the_command_of_the_slurm_job(tmp_path):
    """Run the script with an `srun` that starts its command once, where the command prints its settings."""
    program(tmp_path / "bin", "srun", '"$@" --dry-run --json')
    program(tmp_path / "environment" / "bin", "keras-vit", f'exec {Path(sys.executable).parent}/keras-vit "$@"')
    environment = {**os.environ, "PATH": path_with(tmp_path / "bin"), "VENV": str(tmp_path / "environment")}
    result = subprocess.run(
        ["bash", EXAMPLES / "slurm" / "train.sbatch"],
        env={**environment, "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "deit_s16" in json.dumps(json.loads(result.stdout))


def test_the_slurm_job_has_one_worker_for_each_node():
    """Slurm sets these variables for the job step of a script that requests 4 nodes with one task each."""
    asked = (EXAMPLES / "slurm" / "train.sbatch").read_text()
    assert "#SBATCH --nodes=4\n" in asked and "#SBATCH --ntasks-per-node=1\n" in asked
    step = {
        "SLURM_STEP_NODELIST": "gpu[01-04]",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
    }
    workers = [worker_of_environment({**step, "SLURM_PROCID": str(index)}) for index in range(4)]
    assert [worker.index for worker in workers] == [0, 1, 2, 3]
    assert workers[0].workers == tuple(f"gpu0{number}:12345" for number in range(1, 5))
