"""A board that OpenSSH reaches: Jetson, Raspberry Pi, or any other Linux machine with Python 3.8 or newer.

The client is the user's own `ssh` program, so keys, agents, jump hosts and ~/.ssh/config work as in a terminal. One
connection per file carries everything: edge/devices/supervisor.py, the runner and the file go over standard input.
The command that the board's shell sees is always the same text; names of files never reach it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from keras_vit.edge.devices import supervisor
from keras_vit.edge.devices.device import Device, Need
from keras_vit.edge.devices.interpreter import Interpreter, profiled
from keras_vit.edge.devices.links import Link, RunnerEnded
from keras_vit.edge.devices.local import PROFILER
from keras_vit.edge.devices.runner import check_file
from keras_vit.utils import missing

# The time limits of a connection and of an answer, in seconds.
CONNECT_S = 15.0
ANSWER_S = 300.0
# ssh asks an idle board whether it is there, and gives up after so many questions without an answer.
_ALIVE_S, _ALIVE_COUNT = 5, 3
# A transfer is given this time, and more for each byte: 100 kB/s is a slow wireless link.
_TRANSFER_S, _SLOWEST_BYTES_PER_S = 60.0, 100_000

# What the board's shell runs: read the length of a script from standard input, then the script, and execute it.
_BOOTSTRAP = (
    'exec python3 -c \'import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), "board", "exec"))\''
)
_OLDEST_PYTHON = (3, 8)

# The files of the package that a board needs: the runners and what they import.
_SCRIPTS = (
    "edge/devices/runner.py",
    "edge/devices/onnx_runner.py",
    "edge/devices/profile_runner.py",
    "edge/devices/sensors.py",
    "utils/missing.py",
)


@dataclass(frozen=True)
class Address:
    """Where a board is.

    Attributes:
        host: Its host name or IP address, or a name in the user's SSH configuration.
        user: The name to log in with; None for that of the SSH configuration.
        port: The port; None for that of the SSH configuration.
        python: The Python of the board that has the runtime; None for its `python3`.
        config: An SSH configuration file in place of the user's; None for the user's.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str | None = None
    config: str | None = None

    @classmethod
    def parsed(cls, name: str) -> Address:
        """Return the address in `ssh://[user@]host[:port][?python=PATH][&config=FILE]`.

        Raises:
            ValueError: It is not such an address, or has characters that no host or user name has.
        """
        wrong = f"{name!r} is not the address of a board; write it as {SshDevice.form}"
        try:
            parts = urlsplit(name)
            host, user, port = parts.hostname, parts.username, parts.port
        except ValueError as error:
            raise ValueError(f"{wrong} ({error}).") from None
        if parts.scheme != "ssh" or not host or parts.path not in ("", "/") or parts.fragment:
            raise ValueError(f"{wrong}.")
        if parts.password is not None:
            raise ValueError(f"{name.replace(parts.password, '...')!r} has a password; boards are reached by key only.")
        # urlsplit makes the host lower-case, but names in an SSH configuration have either case.
        host = parts.netloc.rpartition("@")[2]
        host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
        for what, value, allowed in (("host", host, r"[\w.:%-]+"), ("user", user or "u", r"[\w.@\\-]+")):
            if value.startswith("-") or not re.fullmatch(allowed, value, re.ASCII):
                raise ValueError(f"{name!r}: {value!r} is not the name of a {what}.")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(options.keys() - {"python", "config"})
        if unknown:
            raise ValueError(f"{name!r} has the option {unknown[0]!r}; the options are 'python' and 'config'.")
        return cls(host, user, port, options.get("python"), options.get("config"))

    def command(self, program: str = "ssh") -> list[str]:
        """Return the program with its options and the host, to which a remote command can be appended."""
        return [
            program,
            *(["-F", os.path.abspath(self.config)] if self.config else []),
            "-T",
            # Never ask for a password or about an unknown host: nobody may be there to answer.
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={CONNECT_S:.0f}"),
            *("-o", f"ServerAliveInterval={_ALIVE_S}", "-o", f"ServerAliveCountMax={_ALIVE_COUNT}"),
            *("-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"),
            *(["-l", self.user] if self.user else []),
            *(["-p", str(self.port)] if self.port else []),
            "--",
            self.host,
        ]

    def typed(self, program: str = "ssh") -> str:
        """Return the shortest command by which a person logs in, for messages."""
        port = f" -p {self.port}" if self.port else ""
        return f"{program}{port} {self.user + '@' if self.user else ''}{self.host}"


# What `ssh` prints when it fails, and what that means. The first that matches counts.
_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed: this is another machine, or someone is in between. If the board was set up again, "
        "run `ssh-keygen -R {known_host}`, log in once with `{login}`, and compare the fingerprint",
    ),
    (
        "Host key verification failed|No .* host key is known",
        "its host key is not known here; log in once with `{login}` and compare the fingerprint",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "it refuses the key; install yours with `{copy_id}`",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "the private key can be read by others, so ssh does not use it; run `chmod 600` on it",
    ),
    ("Could not resolve hostname", "there is no host of this name; check the name and the network"),
    ("Connection refused", "nothing listens on its SSH port; is `sshd` running there, and is the port right?"),
    (
        "timed out|No route to host|Network is unreachable|Host is down",
        "it does not answer; is it switched on and in this network?",
    ),
    ("Can't open user config file", "the SSH configuration cannot be read"),
    ("Bad configuration option|bad configuration options", "the SSH configuration is wrong"),
)


def board_files() -> dict[str, bytes]:
    """Return the files that a board needs to run a runner, by their paths in a folder that its Python searches."""
    roots = {"edge": Path(supervisor.__file__).parents[1], "utils": Path(missing.__file__).parent}
    files = {}
    for script in _SCRIPTS:
        first, _, rest = script.partition("/")
        files[f"keras_vit/{script}"] = (roots[first] / rest).read_bytes()
        for folder in Path(f"keras_vit/{script}").parents[:-1]:
            files[f"{folder}/__init__.py"] = b""
    return files


class SshLink(Link):
    """A runner on a board, through an `ssh` process.

    Args:
        address: Where the board is.
        module: The module of the runner.

    Raises:
        ConnectionError: The board cannot be reached, or has no Python that would do. The message says what to do.
        TimeoutError: It does not answer.
        FileNotFoundError: OpenSSH's client is not installed on this machine.
        OSError: The board's disk is full, or another error of its system.
    """

    def __init__(self, address: Address, module: str = "keras_vit.edge.devices.runner"):
        self._address, self._module = address, module
        self._started = False
        self._buffer = b""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, it stays open as long as the process runs
        try:
            self.process = subprocess.Popen(
                [*address.command(), _BOOTSTRAP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the connection in order.
            )
        except FileNotFoundError:
            self._log.close()
            raise FileNotFoundError(
                "OpenSSH's client `ssh` is not installed on this machine; on Debian or Ubuntu: "
                "`apt-get install openssh-client`."
            ) from None
        assert self.process.stdin is not None and self.process.stdout is not None  # They are pipes.
        self._input, self._output = self.process.stdin, self.process.stdout
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        script = Path(supervisor.__file__).read_bytes()
        deadline = time.monotonic() + 2 * CONNECT_S
        # Until the login is over, ssh may close its input at any time; then the reason is in its log.
        self._write(f"{len(script)}\n".encode() + script, deadline)
        while True:
            line = self._read_line(deadline, "it accepts connections, but its shell gives no answer")
            if line.startswith(supervisor.GREETING.encode()):
                break
        facts = json.loads(line[len(supervisor.GREETING) :])
        self.python = facts["python"]
        if tuple(map(int, self.python.split(".")[:2])) < _OLDEST_PYTHON:
            oldest = ".".join(map(str, _OLDEST_PYTHON))
            raise self._failure(
                f"its python3 is Python {self.python}; version {oldest} or newer is needed: install one, and name it "
                f"as in {self._name()}?python=/usr/local/bin/python{oldest}"
            )

    def _start(self) -> None:
        """Send the runner and start it."""
        for name, content in board_files().items():
            self.put(name, content)
        request = {"command": "start", "python": self._address.python, "module": self._module}
        answer = self._exchange(request, ANSWER_S)
        if "error" in answer:
            raise self._failure(f"the Python {self._address.python} cannot be started: {answer['error']}")
        self._started = True

    def ask(self, request: dict, limit_s: float | None = None) -> dict:
        if not self._started:
            self._start()
        limit = limit_s or ANSWER_S
        # The board gives up first, so that its sentence arrives.
        answer = self._exchange({**request, "limit_s": limit}, limit + CONNECT_S)
        if answer.get("kind") == "Crash":
            lines = answer["error"]
            if "No module named 'numpy'" in lines or 'No module named "numpy"' in lines:
                raise ImportError(
                    f"{self._name()}: its Python {self.python} has no NumPy; run `{self._pip('numpy')}` there."
                )
            raise RunnerEnded(answer["code"], lines)
        if answer.get("kind") == "ImportError" and "No TensorFlow Lite runtime" in answer["error"]:
            raise ImportError(self._no_runtime())
        if answer.get("kind") == "ImportError" and "onnxruntime" in answer["error"]:
            raise ImportError(
                f"{self._name()}: its Python {self.python} has no onnxruntime; run `{self._pip('onnxruntime')}` there."
            )
        return answer

    def _no_runtime(self) -> str:
        old = tuple(map(int, self.python.split(".")[:2])) < (3, 10)
        package = "tflite-runtime" if old else "ai-edge-litert"
        return (
            f"{self._name()}: its Python {self.python} has no TensorFlow Lite runtime; "
            f"run `{self._pip(package)}` there."
        )

    def _pip(self, package: str) -> str:
        return f"{self._address.python or 'python3'} -m pip install {package}"

    def file(self, path: str) -> str:
        if path.endswith(".tflite"):
            check_file(path)  # A broken file need not travel.
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise type(error)(f"{path} cannot be opened: {error.strerror}.") from None
        return self.put("model.onnx" if path.endswith(".onnx") else "model.tflite", content)

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def put(self, name: str, content: bytes) -> str:
        answer = self._exchange(
            {"command": "put", "path": name, "bytes": len(content)}, self._transfer(content), content
        )
        if "error" in answer:
            if answer.get("errno") in (28, 122) or "No usable temporary directory" in answer["error"]:
                raise OSError(
                    f"{self._name()}: its disk is full; {len(content) / 1e6:.1f} MB more are needed in its folder for "
                    "temporary files."
                )
            raise OSError(f"{self._name()}: {answer['error']}.")
        path = answer["path"]
        self._folder = path[: -len(name) - 1]
        return path

    def get(self, path: str) -> bytes:
        deadline = time.monotonic() + ANSWER_S
        answer = self._exchange({"command": "get", "path": path}, ANSWER_S)
        if "error" in answer:
            raise OSError(f"{self._name()}: {answer['error']}.")
        return self._read_bytes(answer["bytes"], deadline + answer["bytes"] / _SLOWEST_BYTES_PER_S)

    @staticmethod
    def _transfer(content: bytes) -> float:
        return _TRANSFER_S + len(content) / _SLOWEST_BYTES_PER_S

    def _exchange(self, message: dict, limit: float, content: bytes = b"") -> dict:
        deadline = time.monotonic() + limit
        self._write(json.dumps(message).encode() + b"\n" + content, deadline)
        return json.loads(self._read_line(deadline, f"it gave no answer within {limit:.0f} s"))

    def _write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            # Answers are read meanwhile only by the board's end closing: one request at a time has one answer.
            _, ready, _ = select.select([], [self._input], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{self._name()}: the transfer of {len(data) / 1e6:.1f} MB took too long.")
            try:
                rest = rest[os.write(self._input.fileno(), rest[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._lost() from None

    def _read_line(self, deadline: float, what: str) -> bytes:
        while b"\n" not in self._buffer:
            self._read_more(deadline, what)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _read_bytes(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._read_more(deadline, "the transfer took too long")
        content, self._buffer = self._buffer[:size], self._buffer[size:]
        return content

    def _read_more(self, deadline: float, what: str) -> None:
        ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{self._name()}: {what}.")
        data = os.read(self._output.fileno(), 1 << 16)
        if not data:
            raise self._lost()
        self._buffer += data

    def _lost(self) -> OSError:
        """Return the error for a connection that has ended, from what ssh printed."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        self._log.seek(0)
        printed = self._log.read().decode(errors="replace").strip()
        if code == 127 or (code and code != 255 and re.search("python3.*not found|not found.*python3", printed)):
            return self._failure(
                "it has no `python3`; on Debian or Ubuntu, run `sudo apt-get install python3-pip` there"
            )
        for pattern, meaning in _FAILURES:
            if re.search(pattern, printed):
                known_host = (
                    f"'[{self._address.host}]:{self._address.port}'" if self._address.port else self._address.host
                )
                meaning = meaning.format(
                    login=self._address.typed(), copy_id=self._address.typed("ssh-copy-id"), known_host=known_host
                )
                return self._failure(meaning)
        lost = code is None or code == 255 or code < 0
        if printed:
            last = printed.splitlines()[-1].strip().rstrip(".")
        elif code is not None and code < 0:
            last = f"ssh was killed by {signal.Signals(-code).name}"
        elif lost:  # Its only end without a sentence.
            last = f"no answer for {_ALIVE_S * _ALIVE_COUNT} s; is it still switched on and in this network?"
        else:
            last = f"ssh ended with exit code {code}"
        return self._failure(f"the connection was lost ({last})" if lost else last)

    def _failure(self, sentence: str) -> ConnectionError:
        return ConnectionError(f"{self._name()}: {sentence}.")

    def _name(self) -> str:
        user, port = self._address.user, self._address.port
        return f"ssh://{user + '@' if user else ''}{self._address.host}{f':{port}' if port else ''}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()  # The board ends its part when its input ends.
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
        self._log.close()


class SshDevice(Device):
    """A board that OpenSSH reaches: LiteRT or tflite-runtime for .tflite files, onnxruntime for .onnx files."""

    form = "ssh://[user@]host[:port]"
    summary = "a board or another machine with Linux, by OpenSSH"

    def __init__(self, name: str):
        super().__init__(name)
        self.address = Address.parsed(name)

    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        onnx = os.fspath(file).endswith(".onnx")
        link = SshLink(self.address, f"keras_vit.edge.devices.{'onnx_runner' if onnx else 'runner'}")
        try:
            return Interpreter(file, threads, link=link, device=self.name.partition("?")[0], cores=cores)
        except BaseException:
            link.close()
            raise

    def profile(self, file: str, runs: int) -> dict:
        return profiled(SshLink(self.address, PROFILER), file, runs, self.name.partition("?")[0])

    def needs(self) -> list[Need]:
        try:
            link = SshLink(self.address)
        except (OSError, TimeoutError) as error:
            return [Need("a connection", None, str(error))]
        try:
            found = [Need("a connection", f"Python {link.python}")]
            try:
                answer = link.ask({"command": "facts"})
            except ImportError as error:
                return [*found, Need("NumPy", None, str(error))]
            runtimes = answer["runtimes"]
            tflite = next((name for name in runtimes if not name.startswith("onnxruntime")), None)
            onnx = next((name for name in runtimes if name.startswith("onnxruntime")), None)
            return [
                *found,
                Need("a TensorFlow Lite runtime", tflite, link._no_runtime()),
                Need("onnxruntime for .onnx files", onnx, link._pip("onnxruntime"), optional=True),
            ]
        finally:
            link.close()
