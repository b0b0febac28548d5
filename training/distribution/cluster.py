"""Find the workers of a job on several machines, and wait for them."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Worker:
    """A process of a job: the addresses "host:port" of all workers, the chief's first, and its own index."""

    workers: tuple[str, ...]
    index: int


def given_worker(workers: Sequence[str], index: int | None) -> Worker:
    """Return the worker that a user described.

    Raises:
        ValueError: An address is not "host:port" or occurs twice, or the index is not that of an address.
    """
    for address in workers:
        if not re.fullmatch(r".+:\d+", address):
            raise ValueError(f"A worker's address is 'host:port'; received {address!r}.")
    if len(set(workers)) < len(workers):
        raise ValueError(f"Each worker has an address of its own; received {list(workers)}.")
    if index is None or not 0 <= index < len(workers):
        raise ValueError(
            f"index is the place of this process among the {len(workers)} workers, from 0 to {len(workers) - 1}; "
            f"received {index}."
        )
    return Worker(tuple(workers), index)


def worker_of_environment(environment: Mapping[str, str] = os.environ, port: int = 12345) -> Worker | None:
    """Return the worker that TF_CONFIG or the variables of a Slurm job step describe, or None if neither does.

    Args:
        environment: The variables. TF_CONFIG is TensorFlow's: {"cluster": {"worker": [addresses]}, "task": {"type":
            "worker", "index": 0}}, with an optional "chief". Slurm's are SLURM_PROCID, SLURM_STEP_NODELIST,
            SLURM_STEP_NUM_TASKS and SLURM_STEP_TASKS_PER_NODE, which `srun` sets.
        port: Under Slurm, the port of the first process on each node; the next process there has the next port.

    Raises:
        ValueError: The variables can't be read, or this process doesn't belong to the training.
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
        raise ValueError(f"TF_CONFIG can't be read ({error}); it is {text!r}.") from error
    if not chiefs + workers:
        return None
    if kind not in ("chief", "worker"):
        raise ValueError(f"A task of training is of type 'chief' or 'worker'; TF_CONFIG has {kind!r}.")
    return given_worker(chiefs + workers, index + (len(chiefs) if kind == "worker" else 0))


def _of_slurm(environment, port):
    try:
        hosts = expand_hosts(environment["SLURM_STEP_NODELIST"])
        counts = []
        # Such as "4(x2),3": two nodes with 4 tasks, then one with 3.
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment["SLURM_STEP_TASKS_PER_NODE"]):
            counts += [int(count)] * int(times or 1)
    except KeyError as error:
        raise ValueError(f"This Slurm job step has no {error.args[0]}; start it by srun.") from error
    if len(hosts) != len(counts) or sum(counts) != int(environment["SLURM_STEP_NUM_TASKS"]):
        raise ValueError(
            f"Slurm's variables don't fit together: {len(hosts)} nodes, tasks on each {counts}, "
            f"SLURM_STEP_NUM_TASKS={environment['SLURM_STEP_NUM_TASKS']}."
        )
    workers = [f"{host}:{port + task}" for host, count in zip(hosts, counts, strict=True) for task in range(count)]
    return given_worker(workers, int(environment["SLURM_PROCID"]))


def expand_hosts(names: str) -> list[str]:
    """Expand Slurm's short form of a list of hosts, such as "gpu[01-03,7],login"."""
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
    """Wait until every other worker of the job can be reached, so that each has called this function.

    TensorFlow waits for absent workers for an hour or forever, and does not say which one is missing.

    Args:
        worker: This process. It listens at its port meanwhile, as TensorFlow will afterwards.
        timeout: Seconds for all workers together.

    Raises:
        TimeoutError: A worker did not answer; the message has its address.
        OSError: This process can't listen at its port.
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
            f"Worker {worker.index} can't listen at {worker.workers[worker.index]} ({error.strerror}); give it a "
            "port that is free."
        ) from error
    deadline = time.monotonic() + timeout
    with server:
        for index, address in enumerate(worker.workers):
            if index != worker.index:
                _wait_for(address, f"Worker {index}", deadline, timeout)


def wait_for_grpc(address: str, what: str, timeout: float) -> None:
    """Wait until a gRPC server answers at "host:port".

    Raises:
        TimeoutError: None answered within `timeout` seconds; the message starts with `what` and has the address.
    """
    _wait_for(address, what, time.monotonic() + timeout, timeout, _check_grpc)


def _check_grpc(connection):
    # gRPC is HTTP/2: both sides begin with a frame of settings, the client after 24 fixed bytes (RFC 9113, 3.4).
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
                    f"{what} at {address} did not answer within {timeout:g} s ({error}). Is it running, and "
                    "the address right and open to this machine?"
                ) from error
            time.sleep(0.2)
