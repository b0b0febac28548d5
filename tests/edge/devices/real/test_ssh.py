"""The failures of boards, against a real OpenSSH server and the real client. `make test-devices` runs them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from keras_vit import edge
from keras_vit.edge.devices import ssh
from keras_vit.edge.devices.opening import open_file

pytestmark = pytest.mark.device


@pytest.fixture
def board(server):
    """A board whose python3 is this one, with its packages."""
    python = server.folder / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return server


def test_outputs_and_times(board, tflite_files, images, tmp_path):
    name = tmp_path / "a b';$(touch pwned).tflite"
    shutil.copy(tflite_files["float32"], name)
    assert edge.verify(tflite_files["float32"], name, images, device=board.name).snr_db > 100
    result = edge.benchmark([name, tflite_files["int8"]], board.name, runs=50)[0]
    assert len(result.samples_ms) >= 50 and result.snr_db is None  # Equal outputs.
    assert not list(tmp_path.rglob("pwned"))


def test_a_board_without_python(server, tflite_files):
    for name in ("sh", "cat"):
        (server.folder / "bin" / name).symlink_to(f"/bin/{name}")
    config = server.folder / "sshd_config"
    server.stop()
    config.write_text(config.read_text().replace(":/usr/bin:/bin", ""))
    time.sleep(0.5)
    subprocess.run(["/usr/sbin/sshd", "-f", str(config)], check=True)
    time.sleep(0.5)
    with pytest.raises(ConnectionError, match="has no `python3`"):
        open_file(tflite_files["float32"], device=server.name)


def test_a_board_without_litert(board, tflite_files):
    (board.folder / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None\n"
    )
    with pytest.raises(ImportError, match="python3 -m pip install ai-edge-litert"):
        open_file(tflite_files["float32"], device=board.name)


def test_a_board_with_tflite_runtime_only(board, tflite_files, images, old_python):
    """The real tflite-runtime 2.14 runs a float32 file, and says that it is too old for a newer operator."""
    python = board.folder / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{old_python}" "$@"\n')
    with open_file(tflite_files["float32"], device=board.name) as interpreter:
        assert interpreter.runtime == "tflite-runtime 2.14.0"
        interpreter.allocate()
        assert interpreter.run(images)[0].shape == (12, 5)


def test_a_wrong_key(board, tflite_files):
    config = board.folder / "ssh_config"
    config.write_text(config.read_text().replace("/user\n", "/stranger\n"))
    with pytest.raises(ConnectionError, match="refuses the key; install yours with `ssh-copy-id board`"):
        open_file(tflite_files["float32"], device=board.name)


def test_a_changed_host_key(board, tflite_files):
    board.knows("other_host")
    with pytest.raises(ConnectionError, match="host key has changed"):
        open_file(tflite_files["float32"], device=board.name)


def test_an_unknown_host_key(board, tflite_files):
    (board.folder / "known_hosts").write_text("")
    with pytest.raises(ConnectionError, match="host key is not known here"):
        open_file(tflite_files["float32"], device=board.name)


def test_a_host_that_hangs(tflite_files, monkeypatch):
    monkeypatch.setattr(ssh, "CONNECT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises((ConnectionError, TimeoutError), match=r"does not answer|gives no answer"):
            open_file(tflite_files["float32"], device=f"ssh://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 15


def test_nothing_listens(tflite_files):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError, match="nothing listens on its SSH port"):
            open_file(tflite_files["float32"], device=f"ssh://127.0.0.1:{unused.getsockname()[1]}")


def test_a_full_disk(board, tflite_files):
    """A file system in memory of 64 kB, where this process may mount one; else a limit on the size of files."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(board.folder / "tmp")], capture_output=True
    )
    if mounted.returncode:
        pytest.fail(f"A full disk needs the right to mount one: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match=r"its disk is full; 8\.\d MB more are needed"):
            open_file(tflite_files["8_megabytes"], device=board.name)
        assert board.is_clean()
    finally:
        subprocess.run(["umount", str(board.folder / "tmp")], check=True)


def crashing_runtime(board, invoke):
    package = board.folder / "site" / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(
        "import os, signal, time, numpy as np\n"
        "class Interpreter:\n"
        "    def __init__(self, model_path, num_threads): pass\n"
        "    def allocate_tensors(self): pass\n"
        "    def get_signature_list(self): return {}\n"
        "    def get_input_details(self):\n"
        "        return [dict(index=0, name='x', shape=[1], dtype=np.float32, quantization=(0.0, 0))]\n"
        "    get_output_details = get_input_details\n"
        "    def set_tensor(self, index, values): pass\n"
        f"    def invoke(self): {invoke}\n"
    )


def test_a_file_that_crashes_the_runtime(board, tflite_files):
    crashing_runtime(board, "os.kill(os.getpid(), signal.SIGSEGV)")
    with open_file(tflite_files["float32"], device=board.name) as interpreter:
        interpreter.allocate()
        with pytest.raises(RuntimeError, match="was killed by SIGSEGV during 'invoke'"):
            interpreter.request("invoke")


@pytest.mark.parametrize("who", ["server", "client"])
def test_a_connection_that_is_cut(board, tflite_files, who):
    """The server's process for the connection dies, or the client does."""
    crashing_runtime(board, "time.sleep(1000)")
    interpreter = open_file(tflite_files["float32"], device=board.name)
    try:
        interpreter.allocate()

        def cut():
            time.sleep(0.5)
            os.kill(interpreter.link.process.pid if who == "client" else connection_of(board), signal.SIGKILL)

        threading.Thread(target=cut).start()
        with pytest.raises(ConnectionError, match="the connection was lost"):
            interpreter.request("invoke")
        assert board.is_clean(), board.left
    finally:
        interpreter.close()


def connection_of(board):
    """Return the process of the server that has the connection, a child of the one that listens."""
    listening = int((board.folder / "sshd.pid").read_text())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == listening:
            return int(process.name)
    raise AssertionError("there is no connection")


def test_times_of_a_board_that_is_this_machine(board, tflite_files):
    """The way there does not change what is measured."""
    here = edge.benchmark(tflite_files["8_megabytes"], runs=200)
    there = edge.benchmark(tflite_files["8_megabytes"], board.name, runs=200)
    assert np.log(there.p50_ms / here.p50_ms) == pytest.approx(0, abs=0.5)
