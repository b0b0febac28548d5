"""How requests reach the process that runs a file: a pipe on this machine, or a connection to another.

Every link has the same five methods, so an `Interpreter` need not know where its file runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence


class RunnerEnded(Exception):
    """The process that runs the file has ended without an answer. Its text says how, as in "was killed by SIGSEGV"."""

    def __init__(self, code: int, last_line: str):
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__(how)
        self.last_line = last_line


class Link(ABC):
    """A process that runs a file, and how to reach it."""

    @abstractmethod
    def ask(self, request: dict, limit_s: float | None = None) -> dict:
        """Send a request to the runner and return its answer.

        Args:
            request: The command and its arguments.
            limit_s: The seconds after which a device that is not this machine counts as stuck. The default is the
                link's own.

        Raises:
            RunnerEnded: The runner ended without an answer.
            ConnectionError: The connection to the device is lost.
            TimeoutError: The device gave no answer in time.
        """

    @abstractmethod
    def file(self, path: str) -> str:
        """Return the path by which the runner finds a file of this machine, copying the file if need be."""

    @abstractmethod
    def path(self, name: str) -> str:
        """Return the path of a temporary file with a name, for the runner to write."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> str:
        """Write a temporary file for the runner and return its path."""

    @abstractmethod
    def get(self, path: str) -> bytes:
        """Return the content of a file that the runner wrote."""

    @abstractmethod
    def close(self) -> None:
        """End the runner, and remove what it left."""


class LocalLink(Link):
    """A runner on this machine.

    Args:
        command: The command that starts it.
        environment: Environment variables for it, beside those of this process.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None):
        self._folder = tempfile.TemporaryDirectory()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, it stays open as long as the process runs
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # They are pipes.
        self._requests, self._answers = self.process.stdin, self.process.stdout

    def ask(self, request: dict, limit_s: float | None = None) -> dict:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        code = self.process.wait()
        lines = self.log().splitlines()
        raise RunnerEnded(code, lines[-1] if lines else "")

    def log(self) -> str:
        """Return what the runner has written to standard error, also after its end."""
        if self._log.closed:
            return self._printed
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()

    def file(self, path: str) -> str:
        return path

    def path(self, name: str) -> str:
        return os.path.join(self._folder.name, name)

    def put(self, name: str, content: bytes) -> str:
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def get(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # The process has ended already.
            self._requests.close()  # The runner ends with its input.
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # It is busy.
            self.process.kill()
            self.process.wait()
        self._printed = self.log()
        self._answers.close()
        self._log.close()
        self._folder.cleanup()
