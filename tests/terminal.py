"""Run a command in a pseudo-terminal."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Result:
    """The result of a command.

    Attributes:
        code: The exit status.
        output: What the terminal received on standard output and standard error.
    """

    code: int
    output: str

    @property
    def lines(self) -> list[str]:
        """Return all lines that the terminal showed, including overwritten ones, without empty lines."""
        shown = re.split(r"[\r\n]+", self.output.replace("\x1b[K", ""))
        return [line for line in shown if line.strip()]

    def unexpected(self, *patterns: str) -> list[str]:
        """Return the lines that none of the regular expressions fully matches."""
        return [line for line in self.lines if not any(re.fullmatch(pattern, line) for pattern in patterns)]

    def missing(self, *patterns: str) -> list[str]:
        """Return the regular expressions that do not match any line."""
        return [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in self.lines)]


def run_in_terminal(command: Sequence[str | os.PathLike], *, timeout: float = 600, **settings) -> Result:
    """Run a command with a terminal as its standard input, output and error.

    Args:
        command: The program and its arguments.
        timeout: Seconds after which the command is killed.
        settings: Arguments of `subprocess.Popen`, such as `cwd` and `env`.

    Raises:
        TimeoutError: If the command takes longer than `timeout`.
    """
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **settings)
        os.close(theirs)
        received = []
        deadline = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([ours], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                process.kill()
                raise TimeoutError(f"{command} took longer than {timeout} s: {b''.join(received)[-2000:]!r}")
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # On Linux, this error means that all processes have closed the terminal.
                data = b""
            if not data:
                break
            received.append(data)
        return Result(process.wait(), b"".join(received).decode(errors="replace"))
    finally:
        os.close(ours)
