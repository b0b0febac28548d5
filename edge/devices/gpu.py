"""The GPU of this machine, by LiteRT's accelerator.

LiteRT uses WebGPU on a desktop, and Mesa's software Vulkan is enough for it. On a phone it uses OpenCL, so what runs
here is evidence, not proof, for a phone.
"""

from __future__ import annotations

import ctypes.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from keras_vit.edge.devices.device import Device, Need
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.links import LocalLink
from keras_vit.edge.devices.local import installed

_OPTIONS = ("float32", "fallback")
# What the runner says about a file that has operators for the CPU.
_REFUSED = "the GPU does not run it"


class GpuDevice(Device):
    """The GPU of this machine.

    `gpu` computes in the accelerator's own precision, float16, and refuses a file that has an operator the GPU does not
    run. `gpu?float32` computes in float32, and `gpu?fallback` lets the CPU run what the GPU does not.
    """

    form = "gpu"
    summary = "the GPU of this machine, by LiteRT's accelerator"

    def __init__(self, name: str = "gpu"):
        super().__init__(name)
        kind, _, options = name.partition("?")
        self._options = [option for option, _ in parse_qsl(options, keep_blank_values=True)]
        unknown = [option for option in self._options if option not in _OPTIONS]
        if kind != "gpu" or unknown:
            raise ValueError(f"device must be 'gpu', 'gpu?float32' or 'gpu?fallback'; received {name!r}.")

    @classmethod
    def discovered(cls) -> list[str]:
        return ["gpu"]

    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        if not os.fspath(file).endswith(".tflite"):
            raise ValueError(f"The GPU runs .tflite files only; received {os.fspath(file)!r}.")
        link = _link(self._options)
        try:
            return Interpreter(file, threads, link=link, device=self.name, cores=cores)
        except (ValueError, RuntimeError) as error:
            # For some files, LiteRT ends the process where it finds an operator that the GPU does not run.
            names = sorted({name for name, _ in parsed_refusals(link.log())})
            if not names and _REFUSED not in str(error):
                if isinstance(error, RuntimeError):
                    raise RuntimeError(
                        f"{error} `keras-vit audit --target gpu` says on which layers it crashes."
                    ) from None
                raise
            raise ValueError(
                f"{os.fspath(file)}: the GPU does not run its {', '.join(names) or 'operators'}. "
                "`keras-vit audit --target gpu` says which layers they come from; gpu?fallback lets the CPU run them."
            ) from None

    def needs(self) -> list[Need]:
        drivers = sorted({path.stem for folder in _DRIVER_FOLDERS for path in Path(folder).glob("*.json")})
        return [
            installed("ai-edge-litert", "ai_edge_litert", 'pip install "keras-vit[edge]"'),
            Need(
                "Vulkan's loader",
                ctypes.util.find_library("vulkan"),
                "on Debian or Ubuntu: `apt-get install libvulkan1`",
            ),
            Need(
                "a Vulkan driver",
                ", ".join(drivers) or None,
                "install that of the GPU; without a GPU, Mesa's software driver of version 25 or newer: "
                "`apt-get install mesa-vulkan-drivers` (on Debian 12 from its backports)",
            ),
        ]


_DRIVER_FOLDERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")


def refusals(file: str | os.PathLike) -> list[tuple[str, str]]:
    """Return the operators that the GPU refuses, each with the accelerator's reason; empty if it runs all of them.

    Raises:
        ValueError: The file is not one that LiteRT can run.
    """
    link = _link(["fallback"])
    try:
        with Interpreter(file, link=link, device="gpu"):
            pass
    except RuntimeError:
        # For some files, LiteRT ends the process, but not before it has printed them.
        if not parsed_refusals(link.log()):
            raise
    return parsed_refusals(link.log())


def parsed_refusals(log: str) -> list[tuple[str, str]]:
    """Return the operators and reasons in what the accelerator printed."""
    _, found, rest = log.partition("operations are not supported by GPU delegate:")
    refused = []
    for line in rest.splitlines()[1:] if found else []:
        name, colon, reason = line.partition(": ")
        if not colon or not re.fullmatch(r"[A-Z0-9_]+", name):
            break
        refused.append((name, reason.strip().rstrip(".")))
    return refused


def _link(options: Sequence[str]) -> LocalLink:
    """Start a process for the GPU. Compiled shaders are kept, so that only the first one waits for them."""
    shaders = os.environ.get("MESA_SHADER_CACHE_DIR", str(_cache() / "shaders"))
    os.makedirs(shaders, exist_ok=True)
    command = [sys.executable, "-m", "keras_vit.edge.devices.gpu_runner", *options]
    return LocalLink(command, {"MESA_SHADER_CACHE_DIR": shaders})


def _cache() -> Path:
    """Return the folder for what is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_vit"
