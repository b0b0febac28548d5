"""A file that a process of its own has loaded, on this machine or on another.

In that process, the memory of a file can be distinguished from TensorFlow's, and a file that crashes the runtime ends
nothing else.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.edge.devices import runner
from keras_vit.edge.devices.links import Link, LocalLink, RunnerEnded
from keras_vit.edge.files.op_versions import release

# The errors of a runner that are raised as the same class here. Others come from the runtime and are ValueErrors.
_ERRORS = {
    error.__name__: error
    for error in (FileNotFoundError, ImportError, IsADirectoryError, ModuleNotFoundError, PermissionError, TimeoutError)
}


class Interpreter:
    """A .tflite or .onnx file that another process has loaded.

    Use it in a `with` statement, which ends the process.

    Args:
        file: The file.
        threads: The number of CPU threads that the runtime may use.
        command: The command that starts the runner on this machine. The default is this Python with
            edge/devices/runner.py.
        link: The link to the runner, in place of a command.
        device: What messages call the device; empty for this machine.
        cores: The CPU cores that the process may use; empty for all.

    Attributes:
        file: The path as given.
        path: The path by which the runner finds the file.
        runtime: The name and version of the runtime, such as "ai-edge-litert 2.3.0".
        load_ms: The time that reading the file took, in milliseconds.
        opened: All that the runner said when it opened the file.
        inputs, outputs: The name, shape (-1 for a free size), dtype, and signature of each tensor, after `allocate`.
            The signature is its name in the file's only signature, or None.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: The file cannot be read.
        ImportError: No runtime is installed. The message gives the pip commands.
        ConnectionError, TimeoutError: The device cannot be reached, or gives no answer in time.
        ValueError: The file is empty, truncated, corrupt, not a .tflite file, or not for this runtime.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        threads: int = 1,
        command: Sequence[str] | None = None,
        *,
        link: Link | None = None,
        device: str = "",
        cores: Sequence[int] = (),
    ):
        self.file, self.device = os.fspath(file), device
        self.link = link or LocalLink(command or [sys.executable, os.path.abspath(runner.__file__)])
        try:
            self.path = self.link.file(self.file)
            if cores:
                self.request("pin", cores=list(cores))
            opened = self.request("open", file=self.path, threads=threads)
        except BaseException:
            self.close()
            raise
        self.opened, self.runtime, self.load_ms = opened, opened["runtime"], opened["load_ms"]

    def request(self, command: str, limit_s: float | None = None, **arguments: Any) -> dict:
        """Send a command to the runner and return its answer. edge/devices/runner.py lists the commands.

        Raises:
            ValueError: The runtime raised an error. The message is the runtime's, after the name of the file.
            RuntimeError: The runner died. The message names the file, the command, and the signal.
            ConnectionError, TimeoutError: The connection to the device is lost, or it gives no answer in time.
        """
        where = f" on {self.device}" if self.device else ""
        try:
            answer = self.link.ask({"command": command, **arguments}, limit_s)
        except RunnerEnded as ended:
            last = f" Its last line of output: {ended.last_line}" if ended.last_line else ""
            raise RuntimeError(
                f"{self.file}: the process that runs the file{where} {ended} during {command!r}.{last}"
            ) from None
        if "error" not in answer:
            return answer
        sentence = self._explained(" ".join(answer["error"].split()).replace(self.path, self.file))
        if self.file not in sentence and answer["kind"] != "ImportError":
            sentence = f"{self.file}{where}: {sentence}"
        elif self.device and self.device not in sentence:
            sentence = f"{self.device}: {sentence}"
        raise _ERRORS.get(answer["kind"], ValueError)(sentence)

    def _explained(self, sentence: str) -> str:
        """Return what a runtime says about an operator that is newer than itself, and what to do about it."""
        unknown = re.search(r"find op for builtin opcode '(\w+)' version '(\d+)'", sentence)
        if unknown is None:
            return sentence
        first = release(unknown.group(1), int(unknown.group(2)))
        since = f", which is new in TensorFlow Lite {'.'.join(map(str, first))}" if first else ""
        return (
            f"{self.runtime} is too old for the file: it does not know version {unknown.group(2)} of "
            f"{unknown.group(1)}{since}. Install ai-edge-litert, or export in another precision."
        )

    def run(self, values: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run any number of images or other samples, after `allocate`.

        Args:
            values: Real numbers (N, ...) for each input of the file; the array alone if there is one. Quantized inputs
                and outputs are converted with their own scale and zero point.

        Returns:
            A float32 array (N, ...) for each output of the file, in the order of its signature.
        """
        arrays = [values] if isinstance(values, np.ndarray) else values
        if len(arrays) != len(self.inputs):
            raise ValueError(f"{self.file} has {len(self.inputs)} inputs; received {len(arrays)} arrays.")
        inputs = [self.link.put(f"input_{i}.npy", _npy(array)) for i, array in enumerate(arrays)]
        outputs = [self.link.path(f"output_{i}.npy") for i in range(len(self.outputs))]
        self.request("run", inputs=inputs, outputs=outputs)
        return [np.load(io.BytesIO(self.link.get(path)), allow_pickle=False) for path in outputs]

    def allocate(self) -> float:
        """Prepare the file to run, set `inputs` and `outputs`, and return the time it took in milliseconds."""
        answer = self.request("allocate")
        self.inputs, self.outputs = answer["inputs"], answer["outputs"]
        return answer["allocate_ms"]

    def close(self) -> None:
        """End the process."""
        self.link.close()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _npy(array: np.ndarray) -> bytes:
    """Return the content of a .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def profiled(link: Link, file: str, runs: int, device: str = "") -> dict:
    """Profile a file by a link to edge/devices/profile_runner.py, and end the link.

    Returns:
        What that module answers to "profile" and "bandwidth".

    Raises:
        As of `Interpreter`.
    """
    with Interpreter(file, link=link, device=device) as interpreter:
        measured = interpreter.request("profile", file=interpreter.path, runs=runs)
        return {**measured, **interpreter.request("bandwidth")}
