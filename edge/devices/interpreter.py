"""A TensorFlow Lite interpreter in a process of its own, which is edge/devices/runner.py.

There a file's memory can be told from TensorFlow's, and a file that crashes the runtime ends that process and
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

# What a runner's errors are raised as here; every other kind is the runtime's own complaint.
_ERRORS = {
    error.__name__: error
    for error in (FileNotFoundError, ImportError, IsADirectoryError, ModuleNotFoundError, PermissionError)
}


class Interpreter:
    """One .tflite file, opened by edge/devices/runner.py in another process.

    Use it in a `with` statement: the process ends with it.

    Args:
        file: the .tflite file.
        threads: CPU threads that the runtime may use.
        command: the program that is the runner; this Python running edge/devices/runner.py when None.

    Attributes:
        file: the path as given.
        runtime: the runtime's name and version, such as "ai-edge-litert 2.3.0".
        load_ms: milliseconds that reading the file took.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be read.
        ImportError: no runtime is installed; the message has the pip lines.
        ValueError: the file is empty, truncated, corrupt, no .tflite file, or not for this runtime.
    """

    def __init__(self, file: str | os.PathLike, threads: int = 1, command: Sequence[str] | None = None):
        self.file = os.fspath(file)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, it is open as long as the process runs
        self._process = subprocess.Popen(
            list(command) if command else [sys.executable, os.path.abspath(runner.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            opened = self.request("open", file=self.file, threads=threads)
        except BaseException:
            self.close()
            raise
        self.runtime, self.load_ms = opened["runtime"], opened["load_ms"]

    def request(self, command: str, **arguments: Any) -> dict:
        """Sends one command to the runner and gives its answer; edge/devices/runner.py lists the commands.

        Raises:
            ValueError: the runtime refused, in its own words after the file's name.
            RuntimeError: the runner died; the message names the file, the command and the signal.
        """
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(self._obituary(command))
        answer = json.loads(line)
        if "error" not in answer:
            return answer
        sentence = " ".join(answer["error"].split())
        if self.file not in sentence and answer["kind"] != "ImportError":
            sentence = f"{self.file}: {sentence}"
        raise _ERRORS.get(answer["kind"], ValueError)(sentence)

    def _obituary(self, command: str) -> str:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        words = f" Its last words: {lines[-1]}" if lines else ""
        return f"{self.file}: the process that runs the file {how} at {command!r}.{words}"

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Runs a batch of images of any size and gives the outputs, in the order of the file's signature.

        Args:
            images: real numbers (N, H, W, C). Quantized inputs and outputs are converted by their own
                parameters.

        Returns:
            One float32 array for each output of the file, its first axis N. `allocate` comes first.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"output_{i}.npy") for i in range(len(self.outputs))]
            images_path = os.path.join(folder, "images.npy")
            np.save(images_path, images, allow_pickle=False)
            self.request("run", images=images_path, outputs=paths)
            return [np.load(path, allow_pickle=False) for path in paths]

    def allocate(self) -> float:
        """Makes the file ready to run and gives the milliseconds it took.

        Sets `inputs` and `outputs`: lists of name, shape (-1 where the size is free) and dtype.
        """
        answer = self.request("allocate")
        self.inputs, self.outputs = answer["inputs"], answer["outputs"]
        return answer["allocate_ms"]

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):  # it is dead already
            self._process.stdin.close()  # the runner ends with its input
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it is in the middle of something
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
