"""Run a program as one process, or as the workers of a job, and read the arrays that it writes.

A program takes the path of the file that it writes, further arguments, and as a worker `--workers` and `--index`. Its
arrays are named "group/number".
"""

import os
import socket
import subprocess
import sys

import numpy as np

LIMIT = 400  # Seconds for a job. Most take 20 on an idle machine.


def start(program, output, *arguments):
    """Start a module as a process; what it prints is written beside the output."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    command = [sys.executable, "-m", program, output, *arguments]
    with open(f"{output}.txt", "w") as log:
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment)


def finish(processes):
    """Return the exit codes. Kill processes that exceed the time limit."""
    try:
        return [process.wait(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def log(output):
    """Return the end of what a process printed."""
    return output.with_suffix(".npz.txt").read_text()[-3000:]


def read(output):
    """Return the arrays of a file, by group."""
    groups = {}
    with np.load(output) as file:
        for key in sorted(file.files):
            groups.setdefault(key.split("/")[0], []).append(file[key])
    return groups


def run(program, folder, *arguments):
    """Run one process, and return the arrays that it wrote."""
    output = folder / "one.npz"
    assert finish([start(program, output, *arguments)]) == [0], log(output)
    return read(output)


def start_job(program, folder, count, *arguments, of_worker=None):
    """Start one process per worker of a job; `of_worker` has further arguments of individual workers."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = ",".join(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    outputs = [folder / f"worker{index}.npz" for index in range(count)]
    processes = [
        start(program, output, *arguments, "--workers", workers, "--index", index, *(of_worker or {}).get(index, ()))
        for index, output in enumerate(outputs)
    ]
    return processes, outputs


def run_job(program, folder, count, *arguments, of_worker=None):
    """Run a job, and return the arrays that each worker wrote."""
    processes, outputs = start_job(program, folder, count, *arguments, of_worker=of_worker)
    assert finish(processes) == [0] * count, [log(output) for output in outputs]
    return [read(output) for output in outputs]


def distance(ours, theirs):
    """Return the largest difference between two lists of arrays of the same shapes."""
    assert [a.shape for a in ours] == [a.shape for a in theirs]
    return max(float(np.abs(a.astype("float64") - b).max()) for a, b in zip(ours, theirs, strict=True))
