"""An Android phone or board that `adb` reaches, measured by the benchmark_model program on it.

A phone has no Python, so the program measures and prints a summary. Each sample of a benchmark is the median of one run
of the program, and outputs cannot be compared.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from keras_vit.edge.devices import benchmark_model
from keras_vit.edge.devices.device import Device, Need
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.devices.tables import read_nodes

# The folder of a phone that adb may write to and execute from.
_FOLDER = "/data/local/tmp"
_TOOL = "benchmark_model"
_STEP_S, _RUN_S = 60.0, 600.0

# What `adb` prints when it fails, and what that means.
_FAILURES = (
    ("unauthorized", "the phone has not allowed this computer; confirm the question on its screen"),
    (
        "no permissions",
        "this user may not use the USB port; on Debian or Ubuntu: `apt-get install android-sdk-platform-tools-common`",
    ),
    ("offline", "the phone is offline; plug it in again, or restart `adb`"),
    ("not found|no devices", "adb does not see it; is it plugged in, and is USB debugging on?"),
    ("more than one device", "several are connected; name one, as in adb:SERIAL, by what `adb devices` lists"),
    ("cannot connect|failed to connect|Connection refused|timed out", "it does not answer in the network"),
    ("No space left", "its storage is full"),
    ("error: closed|protocol fault|connection reset", "the connection was lost"),
)


class PhoneError(ConnectionError):
    """A phone that cannot be reached, or that lacks what is needed."""


class AdbDevice(Device):
    """A phone that `adb` reaches.

    `adb` is the only one connected, and `adb:SERIAL` one of several; `adb:HOST:PORT` is one in the network. Options
    follow a question mark: `accelerator=gpu` or `npu`, and `tool=PATH`, the benchmark_model of this machine to use.
    """

    form = "adb[:SERIAL]"
    summary = "an Android phone or board, by adb and benchmark_model"
    computes_outputs = False
    runs_per_sample = 20

    def __init__(self, name: str):
        super().__init__(name)
        address, _, options = name.partition("?")
        kind, _, serial = address.partition(":")
        given = dict(parse_qsl(options, keep_blank_values=True))
        if kind != "adb" or (serial and not re.fullmatch(r"\w[\w.:-]*", serial, re.ASCII)):
            raise ValueError(f"{name!r} is not a phone; write it as {self.form}, with a serial of `adb devices`.")
        if unknown := sorted(given.keys() - {"accelerator", "tool"}):
            raise ValueError(f"{name!r} has the option {unknown[0]!r}; the options are 'accelerator' and 'tool'.")
        self.serial, self.tool = serial, given.get("tool")
        self.accelerator = given.get("accelerator", "cpu")
        if self.accelerator not in ("cpu", "gpu", "npu"):
            raise ValueError(f"{name!r}: the accelerator must be 'cpu', 'gpu' or 'npu'.")

    @classmethod
    def discovered(cls) -> list[str]:
        try:
            done = subprocess.run(["adb", "devices"], capture_output=True, text=True, timeout=_STEP_S)
        except (OSError, subprocess.TimeoutExpired):
            return []
        serials = [line.split("\t")[0] for line in done.stdout.splitlines() if "\t" in line]
        return [f"adb:{serial}" for serial in serials if re.fullmatch(r"\w[\w.:-]*", serial, re.ASCII)]

    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        if not os.fspath(file).endswith(".tflite"):
            raise ValueError(f"benchmark_model runs .tflite files only; received {os.fspath(file)!r}.")
        if cores:
            raise ValueError("benchmark_model cannot be pinned to cores.")
        return PhoneFile(self, os.fspath(file), threads)

    def profile(self, file: str, runs: int) -> dict:
        phone = PhoneFile(self, file, 1)
        with phone:
            printed, summary = phone.profiled(runs)
            nodes = [dataclasses.astuple(node) for node in read_nodes(printed)]
            return {"runtime": phone.runtime, "nodes": nodes, "run_ms": summary.mean_ms, "gb_per_s": None}

    def needs(self) -> list[Need]:
        try:
            self.connect()
        except (PhoneError, FileNotFoundError, TimeoutError) as error:
            return [Need("a connection", None, str(error))]
        found = [Need("a connection", self.shell("getprop", "ro.product.model").strip() or "a phone")]
        try:
            kind = self.find_tool()
        except (PhoneError, ValueError) as error:
            return [*found, Need(_TOOL, None, str(error))]
        return [*found, Need(_TOOL, f"that of {kind}")]

    def connect(self) -> None:
        """Check that the phone can be used.

        Raises:
            FileNotFoundError: `adb` is not installed.
            PhoneError: The phone cannot be reached. The message says what to do.
        """
        if re.fullmatch(r"[\w.-]+:\d+", self.serial):
            self._adb(["connect", self.serial], address=False)  # Its exit status is 0 even if it fails.
            if "offline" in self._call(["get-state"], _STEP_S).stdout:  # adb keeps a connection that was cut.
                self._call(["disconnect", self.serial], _STEP_S, address=False)
                self._adb(["connect", self.serial], address=False)
        state = self._adb(["get-state"]).strip()
        if state != "device":
            raise self._failure(state)

    def find_tool(self) -> str:
        """Return whose benchmark_model the phone has, "LiteRT" or "TensorFlow Lite", after copying the one given.

        Raises:
            PhoneError: There is none.
            ValueError: It is another program.
        """
        path = f"{_FOLDER}/{_TOOL}"
        if self.tool is not None:
            if not os.path.isfile(self.tool):
                raise FileNotFoundError(f"There is no program {self.tool!r}.")
            self._adb(["push", os.path.abspath(self.tool), path])
            self.shell("chmod", "755", path)
        printed, code = self._run([path, "--help"], _STEP_S)
        if code in (126, 127) or "not found" in printed or "No such file" in printed:
            raise PhoneError(
                f"{self.name}: it has no {path}; name the program for its processor on this machine, as in "
                f"{self.form.partition('[')[0]}:SERIAL?tool=benchmark_model. Google publishes it with LiteRT."
            )
        return benchmark_model.kind_of(printed)

    def shell(self, *words: str) -> str:
        """Run a command of constant words on the phone and return its output."""
        printed, code = self._run(list(words), _STEP_S)
        if code:
            raise self._failure(printed)
        return printed

    def _run(self, words: list[str], limit_s: float) -> tuple[str, int]:
        done = self._call(["shell", "-T", *words], limit_s)
        return done.stdout, done.returncode

    def _adb(self, arguments: list[str], address: bool = True) -> str:
        done = self._call(arguments, _STEP_S, address)
        if done.returncode:
            raise self._failure(done.stdout)
        return done.stdout

    def _call(self, arguments: list[str], limit_s: float, address: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["adb", *(["-s", self.serial] if self.serial and address else []), *arguments]
        try:
            return subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=limit_s,
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                "`adb` is not installed on this machine; on Debian or Ubuntu: `apt-get install adb`."
            ) from None
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name}: `adb {arguments[0]}` gave no answer within {limit_s:.0f} s.") from None

    def _failure(self, printed: str) -> PhoneError:
        for pattern, meaning in _FAILURES:
            if re.search(pattern, printed):
                return PhoneError(f"{self.name}: {meaning}.")
        lines = printed.strip().splitlines()
        return PhoneError(f"{self.name}: {lines[-1].removeprefix('error: ').rstrip('.') if lines else 'adb failed'}.")


class PhoneFile(Interpreter):
    """A .tflite file on a phone. It can be measured, but its outputs cannot be read.

    Args:
        device: The phone.
        file: The file.
        threads: The number of CPU threads.
    """

    def __init__(self, device: AdbDevice, file: str, threads: int):
        check_file(file)
        device.connect()
        self.file, self.device, self._phone, self._threads = file, device.name, device, threads
        self._kind = device.find_tool()
        benchmark_model.flags(self._kind, "", threads, 1, device.accelerator)  # Refuses what the program cannot do.
        self._folder = f"{_FOLDER}/keras-vit-{secrets.token_hex(8)}"
        self.inputs, self.outputs = [], []
        try:
            device.shell("mkdir", self._folder)
            device._adb(["push", os.path.abspath(file), f"{self._folder}/model.tflite"])
            self._first = self._measured(1)
        except BaseException:
            self.close()
            raise
        self.runtime = f"{self._kind}'s benchmark_model, {device.accelerator.upper()}"
        self.load_ms = self._first.init_ms or 0.0

    def profiled(self, runs: int) -> tuple[str, benchmark_model.Summary]:
        """Return what the program prints with its profiler on, and its summary."""
        return self._run(runs, profile=True)

    def _measured(self, runs: int) -> benchmark_model.Summary:
        return self._run(runs)[1]

    def _run(self, runs: int, profile: bool = False) -> tuple[str, benchmark_model.Summary]:
        words = benchmark_model.flags(
            self._kind, f"{self._folder}/model.tflite", self._threads, runs, self._phone.accelerator, profile
        )
        printed, code = self._phone._run([f"{_FOLDER}/{_TOOL}", *words], _RUN_S)
        if code == 0:
            try:
                summary = benchmark_model.parsed(printed)
            except ValueError:  # adb also ends with 0 when the connection is cut.
                raise PhoneError(
                    f"{self.device}: the connection was lost before benchmark_model had printed its results."
                ) from None
            if summary.accelerated is False and self._phone.accelerator != "cpu":
                raise ValueError(
                    f"{self.file}: {self.device} does not run all of it on its {self._phone.accelerator.upper()}."
                )
            return printed, summary
        if code > 128 and code != 255:
            raise RuntimeError(f"{self.file}: benchmark_model on {self.device} was killed by signal {code - 128}.")
        if "Disallowed CPU fallback" in printed:
            raise ValueError(
                f"{self.file}: {self.device} does not run all of it on its {self._phone.accelerator.upper()}."
            )
        if any(re.search(pattern, printed) for pattern, _ in _FAILURES):
            raise self._phone._failure(printed)
        errors = [line for line in printed.splitlines() if "ERROR" in line] or printed.strip().splitlines()[-1:]
        raise ValueError(f"{self.file}: benchmark_model on {self.device} failed: {errors[0] if errors else code}")

    def request(self, command: str, limit_s: float | None = None, **arguments: Any) -> dict:
        """Answer what a measurement asks for, by runs of the program."""
        if command == "time":
            return {"samples_ms": [self._measured(self._phone.runs_per_sample).median_ms]}
        if command == "invoke":
            return {"ms": self._first.first_ms}
        if command == "memory":
            return {"peak_memory_mb": self._first.peak_memory_mb}
        if command == "facts":
            names = {"board": "ro.product.model", "cpu": "ro.soc.model", "system": "ro.build.version.release"}
            return {name: self._phone.shell("getprop", value).strip() or None for name, value in names.items()}
        if command == "sensors":
            return {"temperature_c": None, "clock_mhz": None, "power_w": None}
        if command == "fill":
            return {}
        raise ValueError(f"{self.file}: {self.device} cannot do {command!r}, because benchmark_model only measures.")

    def allocate(self) -> float:
        return 0.0

    def close(self) -> None:
        """Remove the file from the phone, also when the connection was cut and can be made again."""
        try:
            self._phone.connect()
            self._phone.shell("rm", "-rf", self._folder)
        except (OSError, TimeoutError):
            return  # The phone is gone.
