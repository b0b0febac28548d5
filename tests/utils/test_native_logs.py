"""Native log lines are held back; nothing else is, whoever prints it, and descriptor 2 is restored."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from keras_vit.utils import log_filter
from keras_vit.utils.log_filter import Sieve
from keras_vit.utils.native_logs import native_logs

# As TensorFlow 2.20 and 2.21, their converter and ai-edge-litert 2.3 print them.
NATIVE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795661904.578097   20224 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795661914.863246   20224 tf_tfl_flatbuffer_helpers.cc:364] Ignored output_format.",
    "E0000 00:00:1795661910.235163   20224 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)",
    "I1126 03:05:01.123456   20224 loader.cc:236] Restoring SavedModel bundle.",
    "2026-11-26 03:05:01.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate "
    "compiler flags.",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "VERBOSE: Replacing 14 out of 14 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions.",
]
# Others' lines, some of them similar.
OTHERS = [
    "INFO: training starts",
    "WARNING: the disk is almost full",
    "WARNING:absl:Importing a function with ops with unsaved custom gradients.",
    "W1126 03:05:01.123456 139876543210 loading.py:83] Python's absl writes such a line",
    "I0000 is the number of the first image",
    "F0000 00:00:1795661904.578097   20224 status.cc:7] Check failed: the program ends with this",
    "model.py:12: UserWarning: the file said: I0000 00:00:1795661904.578097   20224 port.cc:153] oneDNN",
    "",
]


def write(*lines):
    """Write as C++ code does."""
    for line in lines:
        os.write(2, line.encode() + b"\n")


def identity(descriptor):
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, os.get_inheritable(descriptor)


def test_native_lines_are_held_back_and_all_others_appear(capfd):
    before = identity(2)
    with native_logs() as captured:
        for native, other in zip(NATIVE, OTHERS + NATIVE, strict=False):
            write(native)
            write(other) if other in OTHERS else None
    assert identity(2) == before
    assert captured == NATIVE
    assert capfd.readouterr().err.splitlines() == OTHERS


def test_show_holds_back_nothing(capfd):
    with native_logs(show=True) as captured:
        write(*NATIVE)
    assert captured == []
    assert capfd.readouterr().err.splitlines() == NATIVE


def test_an_exception_shows_the_lines_once(capfd):
    with pytest.raises(ZeroDivisionError), native_logs():
        write(NATIVE[1])
        with native_logs():
            write(NATIVE[2])
            raise ZeroDivisionError
    # The inner block prints what came while it was open, and the outer block the rest.
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(NATIVE[1:3])


def test_a_deliberate_end_shows_nothing(capfd):
    with pytest.raises(SystemExit), native_logs() as captured:
        write(*NATIVE)
        sys.exit(0)
    assert captured == NATIVE
    assert capfd.readouterr().err == ""


def test_nested_blocks_have_the_lines_since_their_beginning(capfd):
    with native_logs() as outer:
        write(NATIVE[1])
        with native_logs() as inner:
            write(NATIVE[2])
        write(NATIVE[3])
    assert (outer, inner) == (NATIVE[1:4], NATIVE[2:3])
    write("afterwards")
    assert capfd.readouterr().err == "afterwards\n"


def test_threads_share_the_filter_and_lose_nothing(capfd):
    before = identity(2)
    wrong = []

    def work(number):
        for i in range(20):
            with native_logs() as captured:
                write(f"I0000 00:00:1795661904.578097   {number:5d} thread.cc:{i}] native", f"thread {number} line {i}")
            if not any(f" {number:5d} thread.cc:{i}] " in line for line in captured):
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert identity(2) == before
    expected = [f"thread {number} line {i}" for number in range(4) for i in range(20)]
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(expected)


def test_logging_of_python_appears(capfd):
    handler = logging.StreamHandler(open(2, "w", closefd=False))  # noqa: SIM115
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    try:
        with native_logs() as captured:
            logger.warning("a library warns")
            write(NATIVE[1])
    finally:
        logger.removeHandler(handler)
    assert captured == NATIVE[1:2]
    assert capfd.readouterr().err == "a library warns\n"


def test_an_unfinished_line_does_not_wait_for_its_end(capfd):
    with native_logs():
        os.write(2, b"Continue? ")
        appeared, deadline = "", time.monotonic() + 10
        while not appeared and time.monotonic() < deadline:
            time.sleep(0.02)
            appeared = capfd.readouterr().err
    assert appeared == "Continue? "


def test_a_line_written_in_pieces_is_recognized(capfd):
    with native_logs() as captured:
        for piece in (b"INFO: ", b"Created TensorFlow Lite XNNPACK delegate for CPU.", b"\n"):
            os.write(2, piece)
    assert captured == ["INFO: Created TensorFlow Lite XNNPACK delegate for CPU."]
    assert capfd.readouterr().err == ""


def test_more_than_a_pipe_holds_does_not_block(capfd):
    native = NATIVE[1] + "x" * (10 << 20)
    other = "y" * (10 << 20)
    with native_logs() as captured:
        write(native, other)
    assert captured == [native]
    assert capfd.readouterr().err == other + "\n"


def test_a_child_process_keeps_its_standard_error_after_the_block(capfd):
    with native_logs():
        script = "import sys; input(); print('from the child', file=sys.stderr)"
        child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    write("from the parent")
    child.communicate(b"\n")
    appeared, deadline = "", time.monotonic() + 10
    while "child" not in appeared and time.monotonic() < deadline:
        time.sleep(0.02)
        appeared += capfd.readouterr().err
    assert appeared == "from the parent\nfrom the child\n"


def test_a_crash_shows_the_lines(tmp_path):
    ours, theirs = socket.socketpair()
    with open(tmp_path / "stderr", "wb") as stderr:
        command = [sys.executable, log_filter.__file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=theirs, stderr=stderr)
    theirs.close()
    process.stdin.write("\n".join((*NATIVE, "another line\n")).encode())
    process.stdin.close()
    ours.close()  # Nobody said that there are no further requests.
    assert process.wait(timeout=30) == 0
    assert sorted((tmp_path / "stderr").read_text().splitlines()) == sorted([*NATIVE, "another line"])


@pytest.fixture
def filtering():
    """Run the filter in a thread. Yield the file to write to, the socket, and a function that returns what passed."""
    source, into = os.pipe()
    out, sink = os.pipe()
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=log_filter.main, args=(source, theirs.fileno(), sink))
    thread.start()
    stream = os.fdopen(into, "wb", buffering=0)

    def passed():
        stream.close()
        ours.close()
        thread.join(timeout=30)
        assert not thread.is_alive()
        os.close(sink)
        with os.fdopen(out, "rb") as file:
            return file.read().decode().splitlines()

    yield stream, ours.makefile("rw"), passed
    theirs.close()
    os.close(source)


def ask(requests, *request):
    requests.write(json.dumps(request) + "\n")
    requests.flush()
    return json.loads(requests.readline())


def test_the_protocol_of_the_filter(filtering):
    stream, requests, passed = filtering
    with requests:
        assert ask(requests, "count") == 0
        stream.write("\n".join((*NATIVE[:3], OTHERS[0], "unfinished")).encode())
        assert ask(requests, "count") == 3
        assert ask(requests, "lines", 1) == NATIVE[1:3]
        # What is unfinished has been decided about by now.
        stream.write(b" line\n" + NATIVE[3].encode())
        assert ask(requests, "lines", 2, True) == NATIVE[2:4]
        assert ask(requests, "lines", 2, True) == NATIVE[2:4]
        assert ask(requests, "close") is None
    stream.write(NATIVE[5].encode())
    # A line appears once, however often it is asked for; after "close", all appear.
    assert passed() == [OTHERS[0], "unfinished line", NATIVE[2], NATIVE[3], NATIVE[5]]


def test_the_filter_prints_what_it_holds_when_the_other_end_crashes(filtering):
    stream, requests, passed = filtering
    stream.write("\n".join((*NATIVE, "another line\n")).encode())
    with requests:
        assert ask(requests, "count") == len(NATIVE)
    assert passed() == ["another line", *NATIVE]


def test_a_closed_standard_error_is_left_closed():
    saved = os.dup(2)
    os.close(2)
    try:
        with native_logs() as captured, pytest.raises(OSError):
            write(*NATIVE)
        with pytest.raises(OSError):
            os.fstat(2)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert captured == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_sieve_does_not_depend_on_how_the_stream_is_cut(size):
    bar = ["\r 10%|#   |", "\r 50%|##  |"]
    stream = "\n".join([*NATIVE[:3], OTHERS[0], bar[0] + NATIVE[3], bar[1], *NATIVE[4:], *OTHERS[1:]]).encode()
    sieve = Sieve()
    passed = b"".join(sieve.feed(stream[i : i + size]) for i in range(0, len(stream), size)) + sieve.flush()
    assert [line.decode() for line in sieve.held] == NATIVE
    assert passed.decode().split("\n") == [OTHERS[0], "".join(bar), *OTHERS[1:]]
