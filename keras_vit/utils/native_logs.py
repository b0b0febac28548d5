"""Hold back the log lines that TensorFlow's C++ code writes to standard error.

TensorFlow, its converter, absl and XNNPACK write these lines to file descriptor 2 directly, where neither Python's
`logging` nor its `warnings` can stop them. While a `native_logs` block is open, descriptor 2 is a pipe. A small filter
process (`log_filter.py`) reads the pipe, holds back the lines that look like these logs, and passes on everything else
at once: warnings, tracebacks, and what other threads and child processes print.

The filter is a process, not a thread, because C++ code may write more than a pipe holds without releasing Python's
global interpreter lock, and then no thread could empty the pipe. A process also survives a crash of this one, and then
prints the lines that it held back.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

from keras_vit.utils import log_filter

_lock = threading.RLock()
_current: "_Filter | None" = None


@contextlib.contextmanager
def native_logs(show: bool = False) -> Iterator[list[str]]:
    """Hold back native log lines while the block runs, and print them to standard error if it raises an `Exception`.

    Blocks may be nested and may be open in several threads at once. After the last one, descriptor 2 is what it was.
    While one is open, descriptor 2 is not a terminal, even if it was one before. Nothing is held back on Windows, or
    if descriptor 2 is closed. TensorFlow Lite writes a log line in three pieces: what another thread writes between
    two of them is part of that line, with or without a filter, and is held back with it.

    Args:
        show: Whether to let every line through.

    Yields:
        A list that receives the held-back lines, without their line ends, when the block ends.
    """
    captured: list[str] = []
    filtering = None if show else _enter()
    if filtering is None:
        yield captured
        return
    failed = False
    try:
        yield captured
    except Exception:
        failed = True
        raise
    finally:
        captured += _leave(*filtering, show=failed)


def _enter() -> "tuple[_Filter, int] | None":
    """Open a block. Return the filter and how many lines it holds already."""
    global _current
    if os.name != "posix":
        return None
    with _lock:
        if _current is None:
            try:
                stderr = os.dup(2)
            except OSError:  # Descriptor 2 is closed.
                return None
            _current = _Filter(stderr)
        _current.blocks += 1
        # A new filter holds no lines. Asking would mean to wait until its process has started.
        return _current, _current.count() if _current.blocks > 1 else 0


def _leave(current: "_Filter", start: int, show: bool) -> list[str]:
    """Close a block. Return the lines from number `start` on; print those not printed before if `show` is true."""
    global _current
    with _lock:
        current.blocks -= 1
        last = not current.blocks
        if last:
            _current = None
            current.count()  # So that the pipe is empty, and what other threads print stays in order (almost always).
            current.restore()
        lines = current.lines(start, show)
        if last:
            current.close()
        return lines


def _forget_parents_filter() -> None:
    """Let a forked child open a filter of its own: it cannot share its parent's, nor a lock that a thread held."""
    global _lock, _current
    _lock, _current = threading.RLock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_filter)


class _Filter:
    """The filter process, to which descriptor 2 leads until `restore`.

    Args:
        stderr: A duplicate of descriptor 2, which the filter writes to. It is closed by `restore`.

    Attributes:
        blocks: The number of open `native_logs` blocks.
    """

    def __init__(self, stderr: int):
        self.blocks = 0
        self._stderr = stderr
        requests, other_end = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", log_filter.__file__],
                stdin=read_end,
                stdout=other_end.fileno(),
                stderr=stderr,
                start_new_session=True,  # Ctrl-C in the terminal must not end it before those who write to it.
            )
            os.dup2(write_end, 2)
            self._requests = requests.makefile("rw", encoding="utf-8")
        except BaseException:
            os.close(stderr)
            raise
        finally:
            requests.close()  # The file made of it keeps the connection open.
            other_end.close()
            os.close(read_end)
            os.close(write_end)

    def count(self) -> int:
        """Return how many lines were held back so far."""
        return self._answer(["count"], default=0)

    def lines(self, start: int, show: bool) -> list[str]:
        """Return the lines from number `start` on; print those not printed before if `show` is true."""
        return self._answer(["lines", start, show], default=[])

    def restore(self) -> None:
        """Make descriptor 2 what it was.

        `sys.stderr` is not flushed, here or elsewhere: another thread may have written only a part of its line.
        """
        os.dup2(self._stderr, 2)
        os.close(self._stderr)

    def close(self) -> None:
        """Let the process end. It waits for child processes that write to the pipe, so no one waits for it."""
        self._answer(["close"], default=None)
        self._requests.close()
        threading.Thread(target=self._process.wait, daemon=True).start()  # Otherwise it would become a zombie.

    def _answer(self, request: list, default):
        """Return the answer of the filter, or `default` if someone has killed it."""
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            answer = self._requests.readline()
        except OSError:
            return default
        return json.loads(answer) if answer else default
