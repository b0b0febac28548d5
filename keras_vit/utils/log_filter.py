"""The process behind `keras_vit.utils.native_logs`: it passes standard input on to standard error, except native logs.

Standard output is a socket. Each line that comes in on it is a request in JSON, and is answered with a line of JSON:

    ["count"]               -> how many lines are held back
    ["lines", start, show]  -> the lines from number `start` on, after printing those not printed before if `show`
    ["close"]               -> null; no further requests follow

If the socket closes without that, the process at the other end has crashed, and the lines are printed. After the last
request, everything is passed on, until the last process that writes to standard input has closed it.
"""

import json
import os
import re
import select
import time

# C++ files tell the lines of TensorFlow's own code from those that Python modules write with absl's logging.
_SOURCE = rb"\S+\.(?:cc|cpp|cu|h|inc)(?:\.\w+)*:\d+\] "

_NATIVE_LOG = re.compile(
    b"|".join(
        (
            # absl, such as "I0000 00:00:1767225600.578097   20224 port.cc:153] ..."
            rb"[IWE]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ " + _SOURCE,
            # TensorFlow 2.20, such as "2026-01-01 00:00:00.578097: I tensorflow/core/util/port.cc:153] ..."
            rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] " + _SOURCE,
            rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
            # The second line of a message about the processor.
            rb"To enable the following instructions: .*rebuild TensorFlow with the appropriate compiler flags",
            # TensorFlow Lite.
            rb"(?:VERBOSE|INFO|WARNING): (?:Created TensorFlow Lite |Initialized TensorFlow Lite |"
            rb"Replacing \d+ out of \d+ node|Attempting to use a delegate that only supports static-sized tensors)",
        )
    )
)
# A progress bar moves the cursor and leaves its line unfinished, so a log line may follow it on the same line.
_MOVES_CURSOR = re.compile(rb"[\r\x1b]")

# The time and the number of bytes for which the beginning of a line waits for its end.
_PATIENCE_S = 0.05
_LONG = 1 << 16


class Sieve:
    """Separates native log lines from the rest of a stream of bytes.

    Attributes:
        held: The log lines, without their ends.
    """

    def __init__(self):
        self.held: list[bytearray] = []
        self._undecided = b""  # The beginning of a line.
        self._holding = False  # Whether the line goes on that was held back last.
        self._begun = False  # Whether the beginning of the line has been passed on.

    @property
    def waiting(self) -> bool:
        """Whether there is the beginning of a line that was neither passed on nor held back."""
        return bool(self._undecided)

    def feed(self, data: bytes) -> bytes:
        """Take more of the stream. Return what to pass on: the lines that ended, without the logs."""
        *lines, last = data.split(b"\n")
        passed = []
        for piece in (*(line + b"\n" for line in lines), last):
            if self._holding:
                self._hold(piece)
                continue
            self._undecided += piece
            if piece.endswith(b"\n") or len(self._undecided) > _LONG:
                passed.append(self.flush())
        return b"".join(passed)

    def flush(self) -> bytes:
        """Decide about the beginning of a line without waiting for its end. Return it, or what precedes a log."""
        line, self._undecided = self._undecided, b""
        found = _NATIVE_LOG.search(line)
        start = None if found is None else found.start()
        if start is None or (start > 0 and not self._begun and not _MOVES_CURSOR.search(line, 0, start)):
            self._begun = not line.endswith(b"\n") if line else self._begun
            return line
        self._begun = self._begun or start > 0
        self.held.append(bytearray())
        self._hold(line[start:])
        return line[:start]

    def _hold(self, piece: bytes) -> None:
        self._holding = not piece.endswith(b"\n")
        self.held[-1] += piece.removesuffix(b"\n")


class Filter:
    """Reads from one file descriptor, and writes to another what the sieve passes on.

    Args:
        source: File descriptor to read from.
        sink: File descriptor to write to.
    """

    def __init__(self, source: int, sink: int):
        self._source, self._sink = source, sink
        self._sieve = Sieve()
        self._printed: set[int] = set()  # Numbers of the lines that were printed all the same.
        self._deadline: float | None = None
        self.open = True  # Whether any process may still write to the source.

    @property
    def timeout(self) -> float | None:
        """The seconds after which `pass_on` must be called at the latest."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pass_on(self) -> None:
        """Pass on what has come in."""
        while self.open and select.select([self._source], [], [], 0)[0]:
            data = os.read(self._source, 1 << 16)
            self.open = bool(data)
            _write(self._sink, self._sieve.feed(data))
        if not self._sieve.waiting:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + _PATIENCE_S
        elif time.monotonic() >= self._deadline:
            _write(self._sink, self._sieve.flush())
            self._deadline = None

    def answer(self, request: str, start: int = 0, show: bool = False) -> object:
        """Return the answer to a request."""
        held = self._sieve.held
        if request == "count":
            return len(held)
        if request == "lines":
            _write(self._sink, self._sieve.flush())
            if show:
                self.print_lines(start)
            return [line.decode(errors="replace") for line in held[start:]]
        return None

    def print_lines(self, start: int = 0) -> None:
        """Print the lines from number `start` on that were not printed before."""
        for number in range(start, len(self._sieve.held)):
            if number not in self._printed:
                self._printed.add(number)
                _write(self._sink, bytes(self._sieve.held[number]) + b"\n")

    def stop(self) -> None:
        """Pass everything on, until the last process that writes to the source has closed it."""
        _write(self._sink, self._sieve.flush())
        while data := os.read(self._source, 1 << 16):
            _write(self._sink, data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # Whoever shares the descriptor has made it non-blocking.
            select.select([], [descriptor], [])


def main(source: int = 0, requests: int = 1, sink: int = 2) -> None:
    """Filter, answer requests until the other end has no more of them, then pass everything on.

    Args:
        source: File descriptor to filter.
        requests: File descriptor of the socket for requests and answers.
        sink: File descriptor to which everything but native logs is passed on.
    """
    filtering = Filter(source, sink)
    begun = b""  # The beginning of a request.
    closed = False
    while not closed:
        awaited = [requests, source] if filtering.open else [requests]
        ready, _, _ = select.select(awaited, [], [], filtering.timeout)
        received = os.read(requests, 1 << 16) if requests in ready else None
        # After reading a request: what was written before it belongs to its answer.
        filtering.pass_on()
        if received is None:
            continue
        if not received:
            filtering.print_lines()
            break
        *lines, begun = (begun + received).split(b"\n")
        for line in lines:
            request = json.loads(line)
            closed = request == ["close"]
            _write(requests, json.dumps(filtering.answer(*request)).encode() + b"\n")
    filtering.stop()


if __name__ == "__main__":
    main()
