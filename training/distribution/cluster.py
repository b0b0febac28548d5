"""Determine the workers of a job on several machines, and wait for them."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Worker:
    """A worker process of a job.

    Attributes:
        workers: The addresses "host:port" of all workers. The first one is the chief.
        index: The index of this process in `workers`.
    """

    workers: tuple[str, ...]
    index: int


def given_worker(workers: Sequence[str], index: int | None) -> Worker:
    """Return the worker with the given addresses and index, after checking them.

    Raises:
        ValueError: If an address is not "host:port" or occurs twice, or the index is out of range.
    """
    for address in workers:
        if not re.fullmatch(r".+:\d+", address):
            raise ValueError(f"A worker's address must be 'host:port'; received {address!r}.")
    if len(set(workers)) < len(workers):
        raise ValueError(f"The addresses of the workers must be different; received {list(workers)}.")
    if index is None or not 0 <= index < len(workers):
        raise ValueError(
            f"index must be that of this process among the {len(workers)} workers, from 0 to {len(workers) - 1}; "
            f"received {index}."
        )
    return Worker(tuple(workers), index)


def worker_of_environment(environment: Mapping[str, str] = os.environ, port: int = 12345) -> Worker | None:
    """Return the worker that TF_CONFIG or the variables of a Slurm job step describe, or None if neither is set.

    Args:
        environment: The environment variables. TF_CONFIG has TensorFlow's format: {"cluster": {"worker": [addresses]},
            "task": {"type": "worker", "index": 0}}, with an optional "chief". Slurm's `srun` sets SLURM_PROCID,
            SLURM_STEP_NODELIST, SLURM_STEP_NUM_TASKS and SLURM_STEP_TASKS_PER_NODE.
        port: With Slurm, the port of the first process on each node. Further processes use the following ports.

    Raises:
        ValueError: If the variables can't be parsed, or this process is not one of the workers.
    """
    if environment.get("TF_CONFIG"):
        return _of_tf_config(environment["TF_CONFIG"])
    if "SLURM_STEP_NUM_TASKS" in environment and "SLURM_PROCID" in environment:
        return _of_slurm(environment, port)
    return None


def _of_tf_config(text):
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers = list(cluster.get("chief", ())), list(cluster.get("worker", ()))
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG can't be parsed ({error}); received {text!r}.") from error
    if not chiefs + workers:
        return None
    if kind not in ("chief", "worker"):
        raise ValueError(f"The task type must be 'chief' or 'worker'; TF_CONFIG has {kind!r}.")
    return given_worker(chiefs + workers, index + (len(chiefs) if kind == "worker" else 0))


def _of_slurm(environment, port):
    try:
        hosts = expand_hosts(environment["SLURM_STEP_NODELIST"])
        counts = []
        # For example, "4(x2),3" means two nodes with 4 tasks each, then one node with 3 tasks.
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment["SLURM_STEP_TASKS_PER_NODE"]):
            counts += [int(count)] * int(times or 1)
    except KeyError as error:
        raise ValueError(f"This Slurm job step has no {error.args[0]}; start it with srun.") from error
    if len(hosts) != len(counts) or sum(counts) != int(environment["SLURM_STEP_NUM_TASKS"]):
        raise ValueError(
            f"Slurm's variables are inconsistent: {len(hosts)} nodes, tasks per node {counts}, "
            f"SLURM_STEP_NUM_TASKS={environment['SLURM_STEP_NUM_TASKS']}."
        )
    workers = [f"{host}:{port + task}" for host, count in zip(hosts, counts, strict=True) for task in range(count)]
    return given_worker(workers, int(environment["SLURM_PROCID"]))


def expand_hosts(names: str) -> list[str]:
    """Expand a list of hosts in Slurm's compact notation, such as "gpu[01-03,7],login"."""
    hosts = []
    for name in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", names):
        head, bracket, rest = name.partition("[")
        if not bracket:
            hosts.append(name)
            continue
        ranges, _, tail = rest.partition("]")
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                hosts += expand_hosts(f"{head}{number:0{len(first)}d}{tail}")
    return hosts


def wait_for_workers(worker: Worker, timeout: float) -> None:
    """Wait until all other workers of the job can be reached, which means that they have called this function too.

    TensorFlow itself waits for missing workers for an hour or forever, and does not report which one is missing.

    Args:
        worker: This process. It listens on its port meanwhile, as TensorFlow does afterwards.
        timeout: The time limit for all workers together, in seconds.

    Raises:
        TimeoutError: If a worker does not answer in time. The message contains its address.
        OSError: If this process can't listen on its port.
    """
    port = int(worker.workers[worker.index].rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, dualstack_ipv6=both, backlog=max(128, len(worker.workers))
        )
    except OSError as error:
        raise OSError(
            f"Worker {worker.index} can't listen on {worker.workers[worker.index]} ({error.strerror}); choose a free "
            "port."
        ) from error
    deadline = time.monotonic() + timeout
    with server:
        for index, address in enumerate(worker.workers):
            if index != worker.index:
                _wait_for(address, f"Worker {index}", deadline, timeout)


def wait_for_grpc(address: str, what: str, timeout: float) -> None:
    """Wait until a gRPC server answers at an address.

    Args:
        address: The address, "host:port".
        what: A description of the server, with which the error message starts.
        timeout: The time limit in seconds.

    Raises:
        TimeoutError: If no gRPC server answers in time. The message contains the address.
    """
    _wait_for(address, what, time.monotonic() + timeout, timeout, _check_grpc)


def _check_grpc(connection):
    # gRPC uses HTTP/2: both sides start with a SETTINGS frame, the client after 24 fixed bytes (RFC 9113, 3.4).
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    head = b""
    while len(head) < 9:
        part = connection.recv(9 - len(head))
        if not part:
            raise OSError("it closed the connection")
        head += part
    if head[3] != 4:
        raise OSError("it does not speak gRPC")


def _wait_for(address, what, deadline, timeout, then=lambda connection: None):
    host, _, port = address.rpartition(":")
    while True:
        try:
            left = max(0.1, min(5.0, deadline - time.monotonic()))
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as connection:
                then(connection)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{what} at {address} did not answer within {timeout:g} s ({error}). Check that it is running, "
                    "and that this machine can reach the address."
                ) from error
            time.sleep(0.2)
