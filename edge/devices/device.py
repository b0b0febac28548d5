"""What a device is: it opens a file, says what it lacks, and has a name that a user types.

One file a device: local.py, ssh.py, gpu.py and so on. `find_device` knows them by the beginning of their names.
"""

from __future__ import annotations

import importlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras_vit.edge.devices.interpreter import Interpreter


@dataclass(frozen=True)
class Need:
    """Something that a device has or lacks.

    Attributes:
        what: What it is, such as "LiteRT".
        found: What was found, such as "ai-edge-litert 2.3.0"; None if it is missing.
        remedy: The command or the sentence that says what to do about a missing one.
        optional: Whether the device also works without it.
    """

    what: str
    found: str | None
    remedy: str = ""
    optional: bool = False


class Device(ABC):
    """Something that runs .tflite and .onnx files.

    Args:
        name: The name that the user typed, such as "ssh://pi@board".

    Attributes:
        form: What its name looks like, for messages.
        summary: What it is, in a few words.
        computes_outputs: Whether outputs can be read, or only times.
        measures_time: Whether its times mean anything, or only its outputs.
        runs_per_sample: The number of invocations of which a sample is the median.
    """

    form: ClassVar[str]
    summary: ClassVar[str]
    computes_outputs: ClassVar[bool] = True
    measures_time: ClassVar[bool] = True
    runs_per_sample: ClassVar[int] = 1

    def __init__(self, name: str):
        self.name = name

    @abstractmethod
    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        """Load a file on the device.

        Args:
            file: The .tflite or .onnx file, on this machine.
            threads: The number of CPU threads that the runtime may use.
            cores: The CPU cores that the process may use; empty for all.

        Raises:
            ConnectionError, TimeoutError: The device cannot be reached, or gives no answer in time.
            ImportError: The device lacks a runtime. The message says how to install it.
            ValueError: The file is empty, truncated, corrupt, or not for this runtime.
        """

    def profile(self, file: str, runs: int) -> dict:
        """Run a file with the runtime's profiler on.

        Returns:
            `runtime`, `table` (what the profiler printed), `run_ms` (the mean time of a run), and `gb_per_s` (the
            memory bandwidth; None if it cannot be measured).

        Raises:
            ValueError: The device has no profiler.
        """
        raise ValueError(f"{self.name} has no profiler; there is one on this machine, on boards and on phones.")

    @classmethod
    def discovered(cls) -> list[str]:
        """Return the names of the devices of this kind that can be found without an address."""
        return []

    @abstractmethod
    def needs(self) -> list[Need]:
        """Return what the device needs, and what of it was found."""


# The module and the class of each device, by what its name begins with.
_CLASSES = {
    "local": ("local", "LocalDevice"),
    "gpu": ("gpu", "GpuDevice"),
    "npu": ("npu", "NpuDevice"),
    "ssh": ("ssh", "SshDevice"),
    "adb": ("adb", "AdbDevice"),
}


def device_classes() -> list[type[Device]]:
    """Return the classes of all devices."""
    modules = (
        (importlib.import_module(f"keras_vit.edge.devices.{module}"), name) for module, name in _CLASSES.values()
    )
    return [getattr(module, name) for module, name in modules]


def find_device(name: str) -> Device:
    """Return the device with a name such as "local" or "ssh://user@host".

    Raises:
        ValueError: There is no such device, or its address is not one.
    """
    kind = re.split("[:?]", name, maxsplit=1)[0]
    if kind not in _CLASSES:
        forms = ", ".join(repr(known.form) for known in device_classes())
        raise ValueError(f"device must be one of {forms}; received {name!r}.")
    module, class_name = _CLASSES[kind]
    return getattr(importlib.import_module(f"keras_vit.edge.devices.{module}"), class_name)(name)
