"""Runs one .tflite file on the machine it stands on, and answers questions about it in JSON lines.

This script is the device's half of `keras_vit.edge`. It needs Python 3.8, NumPy and a TensorFlow Lite
interpreter, and nothing of keras_vit, so that it can be copied to a board and started there. Each line of
standard input is a JSON object with a "command" and that command's arguments; each line of standard output is
the command's answer, or {"error": the sentence, "kind": the exception's name}. It stops with its input.

    {"command": "open", "file": PATH, "threads": 1}  -> runtime, load_ms
    {"command": "allocate"}                          -> allocate_ms, inputs, outputs
    {"command": "fill", "seed": 0}                   random inputs
    {"command": "invoke"}                            -> ms
    {"command": "run", "images": NPY, "outputs": [NPY, ...]}
    {"command": "operators"}                         -> operators
    {"command": "memory"}                            -> peak_memory_mb
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import struct
import sys
import time
from importlib import metadata

import numpy as np

# Module of each runtime's Interpreter and the package it comes in, the newest runtime first.
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


def find_interpreter() -> tuple:
    """The class that runs .tflite files here, and the runtime's name and version.

    Raises:
        ImportError: no runtime is installed; the message has the pip lines.
    """
    for module, package in RUNTIMES:
        try:
            interpreter = importlib.import_module(module + ".interpreter").Interpreter
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != module:
                raise  # the runtime is there, but something that it needs is not
        else:
            return interpreter, f"{package} {metadata.version(package)}"
    raise ImportError(
        'No TensorFlow Lite runtime is installed: run `pip install "keras-vit[edge]"`, or on a board '
        "`pip install ai-edge-litert`, or, with Python 3.9 to 3.11 where that has no wheel, "
        '`pip install tflite-runtime==2.14.0 "numpy<2"`.'
    )


# What the tables of a .tflite file refer to, by field number, as TensorFlow's schema.fbs numbers them: an int
# is a vector of elements of so many bytes (a string is one of 1), a dict a table, a list of a dict a vector
# of such tables. Operators' options are another table for each operator, and are known here as tables only.
_NAMED = {0: 1}
_SIGNATURE = {0: [_NAMED], 1: [_NAMED], 2: 1}
_BUFFER = {0: 1}
_QUANTIZATION = {0: 4, 1: 4, 2: 4, 3: 8, 5: {}}
_TENSOR = {0: 4, 3: 1, 4: _QUANTIZATION, 6: {}, 7: 4}
_OPERATOR = {1: 4, 2: 4, 4: {}, 5: 1, 7: 1, 8: 4, 12: {}}
_SUBGRAPH = {0: [_TENSOR], 1: 4, 2: 4, 3: [_OPERATOR], 4: 1}
_MODEL = {1: [{1: 1}], 2: [_SUBGRAPH], 3: 1, 4: [_BUFFER], 5: 4, 6: [_NAMED], 7: [_SIGNATURE]}


class _Flatbuffer:
    """Walks a flatbuffer by offsets and raises struct.error where one points outside of the data."""

    def __init__(self, data):
        self.data = data

    def read(self, kind: str, at: int) -> int:
        if at < 0:
            raise struct.error("offset before the beginning")
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def extent(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise struct.error("extent past the end")

    def table(self, at: int, fields: dict) -> None:
        vtable = at - self.read("i", at)
        vtable_size, table_size = self.read("H", vtable), self.read("H", vtable + 2)
        self.extent(vtable, vtable_size)
        self.extent(at, table_size)
        for field, content in fields.items():
            slot = 4 + 2 * field
            offset = self.read("H", vtable + slot) if slot + 2 <= vtable_size else 0
            if offset:
                position = at + offset
                self.content(position + self.read("I", position), content)
        if fields is _BUFFER:
            self.external_data(at, vtable, vtable_size)

    def content(self, at: int, content) -> None:
        if isinstance(content, dict):
            self.table(at, content)
            return
        length = self.read("I", at)
        self.extent(at + 4, length * (content if isinstance(content, int) else 4))
        if isinstance(content, list):
            for position in range(at + 4, at + 4 + 4 * length, 4):
                self.table(position + self.read("I", position), content[0])

    def external_data(self, at: int, vtable: int, vtable_size: int) -> None:
        """Weights may lie behind the flatbuffer: fields 1 and 2 of a Buffer are their place and size."""
        if vtable_size >= 10:
            offset, size = self.read("H", vtable + 6), self.read("H", vtable + 8)
            if offset and size:
                self.extent(self.read("Q", at + offset), self.read("Q", at + size))


def check_file(path: str) -> None:
    """Sees that every table, vector and weight of a .tflite file lies inside of the file.

    A runtime that is given a truncated file may crash its process or read what is not there: older ones check
    nothing.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is empty, not a .tflite file, truncated or corrupt; the message names it.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ValueError(f"{path} is empty.")
            start = file.read(8)
            if start[4:] != b"TFL3":
                raise ValueError(f"{path} is not a .tflite file: bytes 5 to 8 are {start[4:]!r}, not b'TFL3'.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                flatbuffer = _Flatbuffer(data)
                flatbuffer.table(flatbuffer.read("I", 0), _MODEL)
    except OSError as error:
        raise type(error)(f"{path} cannot be opened: {error.strerror}.") from None
    except struct.error:
        raise ValueError(f"{path} is truncated or corrupt: it refers to data outside of the file.") from None


def _peak_memory() -> float | None:
    """Peak resident memory of this process in bytes, None where the system does not tell."""
    try:
        # Not getrusage on Linux: a process starts there with its parent's peak.
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _milliseconds_since(start: int) -> float:
    return (time.perf_counter_ns() - start) / 1e6


def _natural(name: str) -> tuple:
    """Sorts output_2 before output_10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1)


def _random(detail: dict, generator: np.random.Generator) -> np.ndarray:
    """Normal numbers for an input of floats, the type's whole range for one of integers."""
    dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    raise ValueError(f"Input {detail['name']!r} is of type {dtype}; only floats and integers can be filled.")


def _quantized(values: np.ndarray, detail: dict) -> np.ndarray:
    """Real numbers as the tensor holds them, by its own scale and zero point."""
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / (scale or 1) + zero_point), limits.min, limits.max).astype(dtype)


def _dequantized(values: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float32) - zero_point) * scale if scale else values).astype(np.float32)


class Runner:
    """One .tflite file in this process; each method without an underscore is a command."""

    def open(self, file: str, threads: int = 1) -> dict:
        """Reads the file. Answers the runtime's name and version and the milliseconds it took."""
        interpreter, runtime = find_interpreter()
        check_file(file)
        self._memory_before = _peak_memory()
        start = time.perf_counter_ns()
        self._interpreter = interpreter(model_path=file, num_threads=threads)
        return {"runtime": runtime, "load_ms": _milliseconds_since(start)}

    def allocate(self) -> dict:
        """Plans memory and packs weights. Answers the milliseconds and what goes in and comes out."""
        start = time.perf_counter_ns()
        self._interpreter.allocate_tensors()
        elapsed = _milliseconds_since(start)
        self._inputs, self._outputs = self._interpreter.get_input_details(), self._output_details()
        return {
            "allocate_ms": elapsed,
            "inputs": [self._described(detail) for detail in self._inputs],
            "outputs": [self._described(detail) for detail in self._outputs],
        }

    def _output_details(self) -> list:
        """In the order of the file's signature where it has one; the tensors' own is the converter's."""
        details = self._interpreter.get_output_details()
        signatures = self._interpreter.get_signature_list()
        if len(signatures) != 1:
            return details
        named = self._interpreter.get_signature_runner().get_output_details()
        return [named[name] for name in sorted(named, key=_natural)]

    @staticmethod
    def _described(detail: dict) -> dict:
        return {
            "name": detail["name"],
            # -1 where the size is chosen when the file runs, which is 1 here.
            "shape": [int(size) for size in detail.get("shape_signature", detail["shape"])],
            "dtype": np.dtype(detail["dtype"]).name,
        }

    def fill(self, seed: int = 0) -> dict:
        """Gives the inputs random numbers."""
        generator = np.random.default_rng(seed)
        for detail in self._inputs:
            self._interpreter.set_tensor(detail["index"], _random(detail, generator))
        return {}

    def invoke(self) -> dict:
        """Runs the file once. Answers the milliseconds, of the invocation alone."""
        start = time.perf_counter_ns()
        self._interpreter.invoke()
        return {"ms": _milliseconds_since(start)}

    def run(self, images: str, outputs: list) -> dict:
        """Runs the images of a .npy file, as many at once as the model takes; writes a .npy an output.

        Images and outputs are real numbers; a quantized tensor is converted by its own scale and zero point.
        """
        pixels = np.load(images, allow_pickle=False)
        detail = self._inputs[0]
        batch = int(detail["shape"][0])
        results = [[] for _ in self._outputs]
        for first in range(0, len(pixels), batch):
            part = pixels[first : first + batch]
            full = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            self._interpreter.set_tensor(detail["index"], _quantized(full, detail))
            self._interpreter.invoke()
            for i, output in enumerate(self._outputs):
                values = self._interpreter.get_tensor(output["index"])
                results[i].append(_dequantized(values, output)[: len(part)])
        for i, path in enumerate(outputs):
            np.save(path, np.concatenate(results[i]), allow_pickle=False)
        return {}

    def operators(self) -> dict:
        """Answers the graph's operators, and after them the DELEGATE nodes that took some of them over."""
        details = self._interpreter._get_ops_details()
        return {
            "operators": [
                {
                    "name": detail["op_name"],
                    "inputs": [int(tensor) for tensor in detail["inputs"]],
                    "outputs": [int(tensor) for tensor in detail["outputs"]],
                }
                for detail in details
            ]
        }

    def memory(self) -> dict:
        """Answers by how many megabytes (10^6 bytes) peak memory grew since before the file was opened."""
        peak = _peak_memory()
        return {"peak_memory_mb": None if peak is None else (peak - self._memory_before) / 1e6}


def main() -> None:
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    runner = Runner()
    for line in sys.stdin:
        arguments = json.loads(line)
        command = arguments.pop("command")
        try:
            answer = getattr(runner, command)(**arguments)
        except Exception as error:  # whatever it is, the other side is told
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
