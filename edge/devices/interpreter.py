"""A TensorFlow Lite interpreter in a process of its own, which runs edge/devices/runner.py.

In that process, the memory of a file can be distinguished from TensorFlow's, and a file that crashes the runtime ends
nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.edge.devices import runner

# The errors of a runner that are raised as the same class here. Others come from the runtime and are ValueErrors.
_ERRORS = {
    error.__name__: error
    for error in (FileNotFoundError, ImportError, IsADirectoryError, ModuleNotFoundError, PermissionError)
}


class Interpreter:
    """A .tflite file that another process has loaded.

    Use it in a `with` statement, which ends the process.

    Args:
        file: The .tflite file.
        threads: The number of CPU threads that the runtime may use.
        command: The command that starts the runner. The default is this Python with edge/devices/runner.py.

    Attributes:
        file: The path as given.
        runtime: The name and version of the runtime, such as "ai-edge-litert 2.3.0".
        load_ms: The time that reading the file took, in milliseconds.
        inputs, outputs: The name, shape (-1 for a free size), dtype, and signature of each tensor, after `allocate`.
            The signature is its name in the file's only signature, or None.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: The file cannot be read.
        ImportError: No runtime is installed. The message gives the pip commands.
        ValueError: The file is empty, truncated, corrupt, not a .tflite file, or not for this runtime.
    """

    def __init__(self, file: str | os.PathLike, threads: int = 1, command: Sequence[str] | None = None):
        self.file = os.fspath(file)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, it stays open as long as the process runs
        self._process = subprocess.Popen(
            list(command) if command else [sys.executable, os.path.abspath(runner.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # They are pipes.
        self._commands, self._answers = self._process.stdin, self._process.stdout
        try:
            opened = self.request("open", file=self.file, threads=threads)
        except BaseException:
            self.close()
            raise
        self.runtime, self.load_ms = opened["runtime"], opened["load_ms"]

    def request(self, command: str, **arguments: Any) -> dict:
        """Send a command to the runner and return its answer. edge/devices/runner.py lists the commands.

        Raises:
            ValueError: The runtime raised an error. The message is the runtime's, after the name of the file.
            RuntimeError: The runner died. The message names the file, the command, and the signal.
        """
        try:
            self._commands.write(json.dumps({"command": command, **arguments}) + "\n")
            self._commands.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(self._how_it_ended(command))
        answer = json.loads(line)
        if "error" not in answer:
            return answer
        sentence = " ".join(answer["error"].split())
        if self.file not in sentence and answer["kind"] != "ImportError":
            sentence = f"{self.file}: {sentence}"
        raise _ERRORS.get(answer["kind"], ValueError)(sentence)

    def _how_it_ended(self, command: str) -> str:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        last = f" Its last line of output: {lines[-1]}" if lines else ""
        return f"{self.file}: the process that runs the file {how} during {command!r}.{last}"

    def run(self, values: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run any number of images or other samples, after `allocate`.

        Args:
            values: Real numbers (N, ...) for each input of the file; the array alone if there is one. Quantized inputs
                and outputs are converted with their own scale and zero point.

        Returns:
            A float32 array (N, ...) for each output of the file, in the order of its signature.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays = [values] if isinstance(values, np.ndarray) else values
            inputs = [os.path.join(folder, f"input_{i}.npy") for i in range(len(self.inputs))]
            outputs = [os.path.join(folder, f"output_{i}.npy") for i in range(len(self.outputs))]
            for path, array in zip(inputs, arrays, strict=True):
                np.save(path, array, allow_pickle=False)
            self.request("run", inputs=inputs, outputs=outputs)
            return [np.load(path, allow_pickle=False) for path in outputs]

    def allocate(self) -> float:
        """Prepare the file to run, set `inputs` and `outputs`, and return the time it took in milliseconds."""
        answer = self.request("allocate")
        self.inputs, self.outputs = answer["inputs"], answer["outputs"]
        return answer["allocate_ms"]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # The process has ended already.
            self._commands.close()  # The runner ends with its input.
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # It is busy.
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._log.close()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
