"""The failures of boards, against a real OpenSSH server and the real client. `make test-devices` runs them."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from urllib.parse import urlencode

import numpy as np
import pytest

from keras_vit import edge
from keras_vit.edge.devices import ssh
from keras_vit.edge.devices.opening import open_file

pytestmark = pytest.mark.device


def test_outputs_and_times(board, tflite_files, images):
    assert edge.verify(tflite_files["float32"], tflite_files["float32"], images, device=board.name).snr_db > 100
    result = edge.benchmark([tflite_files["float32"], tflite_files["int8"]], board.name, runs=50)[0]
    assert len(result.samples_ms) >= 50 and result.snr_db is None  # Equal outputs.


@pytest.mark.parametrize("name", ["a b';$(touch pwned).tflite", '-o "ProxyCommand=touch pwned";.tflite'])
def test_the_name_of_a_file_is_only_a_name(board, tflite_files, images, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tflite_files["float32"], tmp_path / name)
    assert edge.verify(tflite_files["float32"], name, images, device=board.name).snr_db > 100
    assert edge.benchmark(name, board.name, runs=1).file == name
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "name",
    [
        "ssh://-oProxyCommand=touch pwned",
        "ssh://-oProxyCommand=touch%20pwned@board",
        "ssh://$(touch pwned)",
        "ssh://board;touch pwned",
        "ssh://pi'`touch pwned`'@board",
        "ssh://a b",
        "ssh://board:22;touch pwned",
    ],
)
def test_an_address_that_is_none_runs_nothing(tflite_files, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not the"):
        open_file(tflite_files["float32"], device=name)
    assert not list(tmp_path.iterdir())


def test_paths_in_an_address_are_only_paths(board, tflite_files, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a b';$(touch pwned)"
    shutil.copy(board.folder / "ssh_config", name)
    shutil.copy(board.folder / "bin" / "python3", board.folder / "bin" / name)
    paths = urlencode({"config": name, "python": str(board.folder / "bin" / name)})
    assert edge.verify(tflite_files["float32"], tflite_files["float32"], images, device=f"ssh://board?{paths}").images
    assert not list(tmp_path.rglob("pwned"))


def test_a_board_without_python(server, tflite_files):
    for name in ("sh", "cat"):
        (server.folder / "bin" / name).symlink_to(f"/bin/{name}")
    config = server.folder / "sshd_config"
    server.stop()
    config.write_text(config.read_text().replace(":/usr/bin:/bin", ""))
    server.start()
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


def as_root(*command):
    """Run a command that only root may run."""
    done = subprocess.run([*(["sudo", "-n"] if os.getuid() else []), *command], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"A full disk needs the right to mount one: {done.stderr.strip()}")


def test_a_full_disk(board, tflite_files):
    """A file system of 64 kB."""
    disk = str(board.folder / "tmp")
    as_root("mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", disk)
    try:
        with pytest.raises(OSError, match=r"its disk is full; 8\.\d MB more are needed"):
            open_file(tflite_files["8_megabytes"], device=board.name)
        assert board.is_clean(), board.left
    finally:
        as_root("umount", disk)


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
            process = interpreter.link.process.pid if who == "client" else board.connections[0]
            os.kill(process, signal.SIGKILL)

        threading.Thread(target=cut).start()
        how = "ssh was killed by SIGKILL" if who == "client" else "closed by remote host"
        with pytest.raises(ConnectionError, match=rf"the connection was lost \(.*{how}"):
            interpreter.request("invoke")
        assert board.is_clean(), board.left
    finally:
        interpreter.close()


def test_a_connection_that_falls_silent(board, tflite_files):
    """Nothing is closed, as when a cable is pulled."""
    crashing_runtime(board, "time.sleep(1000)")
    with open_file(tflite_files["float32"], device=board.name) as interpreter:
        interpreter.allocate()
        (silent,) = board.connections
        timer = threading.Timer(0.5, os.kill, [silent, signal.SIGSTOP])
        timer.start()
        try:
            begin = time.monotonic()
            with pytest.raises(ConnectionError, match=r"the connection was lost \(no answer for 15 s"):
                interpreter.request("invoke")
            assert time.monotonic() - begin < 25
        finally:
            timer.join()
            os.kill(silent, signal.SIGCONT)


def test_times_of_a_board_that_is_this_machine(board, tflite_files):
    """The way there does not change what is measured."""
    here = edge.benchmark(tflite_files["8_megabytes"], runs=200)
    there = edge.benchmark(tflite_files["8_megabytes"], board.name, runs=200)
    assert np.log(there.p50_ms / here.p50_ms) == pytest.approx(0, abs=0.5)
