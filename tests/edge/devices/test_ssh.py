"""Boards that OpenSSH reaches, played by a stand-in for `ssh`. tests/on_devices has the same with a real server."""

import os
import threading
import time

import numpy as np
import pytest

from keras_vit.edge.devices import ssh
from keras_vit.edge.devices.opening import open_file
from keras_vit.edge.devices.ssh import Address, SshDevice
from tests.edge.devices.boards import Board, own_path

NAME = "ssh://pi@board"


@pytest.fixture
def board(tmp_path, monkeypatch):
    board = Board(tmp_path / "board")
    monkeypatch.setenv("PATH", own_path(board))
    yield board
    assert board.is_clean(), (board.left_files, board.left_processes)


def outputs_on(device, file, images):
    with open_file(file, device=device) as interpreter:
        interpreter.allocate()
        return interpreter.run(images)


@pytest.mark.parametrize("name", ["float32", "int8", "batch_of_4"])
def test_a_file_gives_the_same_outputs_on_a_board(board, tflite_files, images, name):
    (there,) = outputs_on(NAME, tflite_files[name], images)
    (here,) = outputs_on("local", tflite_files[name], images)
    np.testing.assert_array_equal(there, here)


def test_an_onnx_file_runs_on_a_board(board, tmp_path):
    import onnx

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Exp", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "m.onnx",
    )
    values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    (there,) = outputs_on(NAME, tmp_path / "m.onnx", values)
    np.testing.assert_allclose(there, np.exp(values), rtol=1e-6)


def test_a_board_reports_what_it_is(board, tflite_files):
    with open_file(tflite_files["float32"], device=NAME) as interpreter:
        facts = interpreter.request("facts")
    assert facts["architecture"] == os.uname().machine and facts["cores"] == os.cpu_count()
    assert any(runtime.startswith("ai-edge-litert ") for runtime in facts["runtimes"])


def test_nobody_is_asked_and_host_keys_are_checked(board, tflite_files):
    open_file(tflite_files["float32"], device="ssh://pi@board:2222").close()
    (call,) = board.arguments
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ServerAliveInterval=5"} <= set(call)
    assert call[-6:-1] == ["pi", "-p", "2222", "--", "board"]


@pytest.mark.parametrize(
    "name", ["a b.tflite", "it's;touch pwned.tflite", '$(touch pwned)".tflite', "-o ProxyCommand=x.tflite"]
)
def test_the_name_of_a_file_does_not_reach_the_board(board, tflite_files, images, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open(tflite_files["float32"], "rb") as file, open(name, "wb") as copy:
        copy.write(file.read())
    (there,) = outputs_on(NAME, name, images)
    assert there.shape == (12, 5)
    assert not list(tmp_path.rglob("pwned"))
    remote_command = board.arguments[0][-1]
    assert "tflite" not in remote_command and remote_command.startswith("exec python3 -c ")


@pytest.mark.parametrize(
    "name, words",
    [
        ("ssh://-oProxyCommand=touch pwned", "is not the name of a host"),
        ("ssh://-lroot@board", "is not the name of a user"),
        ("ssh://pi@$(touch pwned)", "is not the name of a host"),
        ("ssh://pi@board;touch pwned", "is not the name of a host"),
        ("ssh://p'i@board", "is not the name of a user"),
        ("ssh://pi:secret@board", "reached by key only"),
        ("ssh://board:port", "is not the address of a board"),
        ("ssh://board/folder", "is not the address of a board"),
        ("ssh:board", "is not the address of a board"),
        ("ssh://board?pyton=x", "has the option 'pyton'"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_runs(board, name, words):
    with pytest.raises(ValueError, match=words) as raised:
        SshDevice(name)
    assert "secret" not in str(raised.value)
    assert not (board.folder / "arguments").exists()


def test_addresses_are_read():
    assert Address.parsed("ssh://Board") == Address("Board")
    assert Address.parsed("ssh://pi@10.0.0.2:22") == Address("10.0.0.2", "pi", 22)
    assert Address.parsed("ssh://[fe80::1%25eth0]:22").port == 22
    assert Address.parsed("ssh://b?python=/opt/v%201/python").python == "/opt/v 1/python"


CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for board has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    "printed, words",
    [
        ("pi@board: Permission denied (publickey).\n", r"refuses the key; install yours with `ssh-copy-id pi@board`"),
        (CHANGED, r"host key has changed.*ssh-keygen -R board"),
        ("No ED25519 host key is known for board and you have requested strict checking.\n"
         "Host key verification failed.\n", r"not known here; log in once with `ssh pi@board`"),
        ("ssh: Could not resolve hostname board: Name or service not known\n", "no host of this name"),
        ("ssh: connect to host board port 22: Connection refused\n", "nothing listens on its SSH port"),
        ("ssh: connect to host board port 22: Connection timed out\n", "does not answer"),
        ("Connection closed by 10.0.0.2 port 22\n", r"the connection was lost \(Connection closed by 10\.0"),
    ],
)  # fmt: skip
def test_a_connection_that_fails_gives_one_sentence(board, tflite_files, printed, words):
    board.refuses(printed)
    with pytest.raises(ConnectionError, match=words) as raised:
        open_file(tflite_files["float32"], device=NAME)
    assert str(raised.value).startswith(f"{NAME}: ") and "\n" not in str(raised.value)


def test_a_host_that_hangs_is_given_up(board, tflite_files, monkeypatch):
    monkeypatch.setattr(ssh, "CONNECT_S", 0.3)
    board.has("silence")
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="gives no answer"):
        open_file(tflite_files["float32"], device=NAME)
    assert time.monotonic() - begin < 10


def test_a_board_without_python(board, tflite_files):
    board.has("no_python")
    with pytest.raises(ConnectionError, match="has no `python3`"):
        open_file(tflite_files["float32"], device=NAME)


def test_a_board_with_an_old_python(board, tflite_files):
    board.starts_python_with("sys.version_info = (3, 6, 9, 'final', 0)")
    with pytest.raises(ConnectionError, match=r"Python 3\.6\.9; version 3\.8 or newer"):
        open_file(tflite_files["float32"], device=NAME)


def test_another_python_of_the_board_is_used(board, tflite_files, images):
    other = board.folder / "my python"
    other.symlink_to(board.folder / "bin" / "python3")
    (there,) = outputs_on(f"{NAME}?python={other}", tflite_files["float32"], images)
    assert there.shape == (12, 5)
    with pytest.raises(ConnectionError, match="the Python /none cannot be started"):
        open_file(tflite_files["float32"], device=f"{NAME}?python=/none")


def test_a_board_without_a_runtime(board, tflite_files):
    board.lacks("ai_edge_litert", "tflite_runtime")
    with pytest.raises(ImportError, match=r"^ssh://pi@board: .*run `python3 -m pip install ai-edge-litert` there"):
        open_file(tflite_files["float32"], device=NAME)


def test_a_board_without_numpy(board, tflite_files):
    board.starts_python_with(
        """
        import importlib.abc
        class Hidden(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "numpy":
                    raise ModuleNotFoundError("No module named 'numpy'", name=name)
        sys.meta_path.insert(0, Hidden())
        """
    )
    with pytest.raises(ImportError, match=r"has no NumPy; run `python3 -m pip install numpy` there"):
        open_file(tflite_files["float32"], device=NAME)


def test_a_board_with_an_old_runtime_only(board, tflite_files):
    board.lacks("ai_edge_litert")
    # What tflite-runtime 2.14 says about such a file.
    refusal = (
        "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'. An older version of this builtin might "
    )
    refusal += "be supported. Are you using an old TFLite binary with a newer model?\\nRegistration failed.\\n"
    board.installs("tflite_runtime", "2.14.0", allocate=f'raise ValueError("{refusal}")')
    with open_file(tflite_files["float32"], device=NAME) as interpreter:
        assert interpreter.runtime == "tflite-runtime 2.14.0"
        with pytest.raises(
            ValueError, match=r"float32\.tflite on ssh://pi@board: .*tflite-runtime 2\.14\.0 is too old"
        ):
            interpreter.allocate()


def test_a_full_disk(board, tflite_files):
    board.starts_python_with(
        """
        import builtins, errno
        real = builtins.open
        class Full:
            def __init__(self, file): self.file = file
            def __enter__(self): return self
            def __exit__(self, *_): self.file.close()
            def write(self, data): raise OSError(errno.ENOSPC, "No space left on device")
        def open(path, mode="r", *rest, **named):
            file = real(path, mode, *rest, **named)
            return Full(file) if str(path).endswith("model.tflite") and "w" in mode else file
        builtins.open = open
        """
    )
    with pytest.raises(OSError, match=r"^ssh://pi@board: its disk is full; 0\.0 MB more"):
        open_file(tflite_files["float32"], device=NAME)


def test_a_file_that_crashes_the_runtime_is_not_a_lost_connection(board, tflite_files):
    board.installs("ai_edge_litert", "9.9", invoke="os.kill(os.getpid(), signal.SIGSEGV)")
    with open_file(tflite_files["float32"], device=NAME) as interpreter:
        interpreter.allocate()
        interpreter.request("fill")
        with pytest.raises(
            RuntimeError, match=r"float32\.tflite.* on ssh://pi@board was killed by SIGSEGV during 'invoke'"
        ):
            interpreter.request("invoke")


def test_a_connection_that_is_cut_is_not_a_crash(board, tflite_files):
    board.installs("ai_edge_litert", "9.9", invoke="time.sleep(1000)")
    interpreter = open_file(tflite_files["float32"], device=NAME)
    try:
        interpreter.allocate()
        interpreter.request("fill")
        threading.Timer(0.3, board.has, ["cut"]).start()
        with pytest.raises(ConnectionError, match=r"^ssh://pi@board: the connection was lost \(client_loop"):
            interpreter.request("invoke")
        assert board.is_clean()  # Though nobody here has ended anything.
    finally:
        interpreter.close()


def test_a_runner_that_never_answers_is_ended(board, tflite_files):
    board.installs("ai_edge_litert", "9.9", invoke="time.sleep(1000)")
    with open_file(tflite_files["float32"], device=NAME) as interpreter:
        interpreter.allocate()
        interpreter.request("fill")
        with pytest.raises(TimeoutError, match=r"float32\.tflite on ssh://pi@board: no answer within 0\.3 s"):
            interpreter.request("invoke", limit_s=0.3)
        assert [line for line in board.left_processes if "runner" in line] == []


def test_leaving_early_ends_a_busy_board(board, tflite_files):
    board.installs("ai_edge_litert", "9.9", invoke="time.sleep(1000)")
    with pytest.raises(KeyboardInterrupt), open_file(tflite_files["float32"], device=NAME) as interpreter:
        interpreter.allocate()
        interpreter.request("fill")
        threading.Timer(0.3, os.kill, [os.getpid(), 2]).start()
        interpreter.request("invoke")
    assert board.is_clean()


def test_a_file_that_is_broken_does_not_travel(board, broken_files):
    with pytest.raises(ValueError, match="truncated or corrupt"):
        open_file(broken_files["truncated"], device=NAME)


def test_a_machine_without_ssh(board, tflite_files, monkeypatch):
    monkeypatch.setenv("PATH", str(board.folder / "empty"))
    with pytest.raises(FileNotFoundError, match="apt-get install openssh-client"):
        open_file(tflite_files["float32"], device=NAME)


def test_what_a_board_lacks_is_listed(board):
    board.starts_python_with("")
    needs = {need.what: need for need in SshDevice(NAME).needs()}
    assert needs["a TensorFlow Lite runtime"].found.startswith("ai-edge-litert ")
    board.refuses("pi@board: Permission denied (publickey).\n")
    (connection,) = SshDevice(NAME).needs()
    assert connection.found is None and "ssh-copy-id" in connection.remedy
