"""Run a .tflite file on the machine that this script is on, and answer requests about it in lines of JSON.

This script is the part of `keras_vit.edge` that runs on the device. It needs Python 3.8, NumPy, and a TensorFlow Lite
interpreter, but of keras_vit only edge/devices/sensors.py, so it can be copied to a board and started there. Each line
of standard input is a JSON object with a "command" and its arguments. Each line of standard output is the answer to a
command, or {"error": message, "kind": name of the exception}. The script ends with its input.

    {"command": "pin", "cores": [0, 1]}              -> (runs only on these cores from now on)
    {"command": "open", "file": PATH, "threads": 1}  -> runtime, load_ms
    {"command": "allocate"}                          -> allocate_ms, inputs, outputs
    {"command": "fill", "seed": 0}                   -> (sets random inputs)
    {"command": "invoke"}                            -> ms
    {"command": "time", "runs": 10, "seconds": 0.5}  -> samples_ms
    {"command": "energy", "seconds": 5}              -> watts, runs, seconds
    {"command": "facts"}                             -> what the machine is, and its runtimes
    {"command": "sensors"}                           -> temperature_c, clock_mhz, power_w
    {"command": "run", "inputs": [NPY, ...], "outputs": [NPY, ...]}
    {"command": "operators"}                         -> operators
    {"command": "memory"}                            -> peak_memory_mb
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np

from keras_vit.edge.devices import sensors

# The module and the package of each runtime, the newest first.
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


def find_interpreter() -> tuple:
    """Return the class that runs .tflite files here, and the name and version of the runtime.

    Raises:
        ImportError: No runtime is installed. The message gives the pip commands.
    """
    for module, package in RUNTIMES:
        try:
            interpreter = importlib.import_module(module + ".interpreter").Interpreter
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != module:
                raise  # The runtime is installed, but something that it needs is not.
        else:
            return interpreter, f"{package} {metadata.version(package)}"
    raise ImportError(
        'No TensorFlow Lite runtime is installed: run `pip install "keras-vit[edge]"`, or on a board '
        "`pip install ai-edge-litert`, or, with Python 3.9 to 3.11 where that has no wheel, "
        '`pip install tflite-runtime==2.14.0 "numpy<2"`.'
    )


# What the fields of a .tflite file's tables refer to, by their number in TensorFlow's schema.fbs. A number is a vector
# of elements of that many bytes (1 for a string), a dictionary is a table, and a list with a dictionary is a vector of
# such tables. The options of operators, which differ between operators, are checked as tables without fields.
_NAMED = {0: 1}
_SIGNATURE = {0: [_NAMED], 1: [_NAMED], 2: 1}
_BUFFER = {0: 1}
_QUANTIZATION = {0: 4, 1: 4, 2: 4, 3: 8, 5: {}}
_TENSOR = {0: 4, 3: 1, 4: _QUANTIZATION, 6: {}, 7: 4}
_OPERATOR = {1: 4, 2: 4, 4: {}, 5: 1, 7: 1, 8: 4, 12: {}}
_SUBGRAPH = {0: [_TENSOR], 1: 4, 2: 4, 3: [_OPERATOR], 4: 1}
_MODEL = {1: [{1: 1}], 2: [_SUBGRAPH], 3: 1, 4: [_BUFFER], 5: 4, 6: [_NAMED], 7: [_SIGNATURE]}


class _Flatbuffer:
    """Follows the offsets of a flatbuffer, and raises struct.error if one points outside the data."""

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
        """Check weights that are stored after the flatbuffer; fields 1 and 2 of a Buffer are their offset and size."""
        if vtable_size >= 10:
            offset, size = self.read("H", vtable + 6), self.read("H", vtable + 8)
            if offset and size:
                self.extent(self.read("Q", at + offset), self.read("Q", at + size))


def check_file(path: str) -> None:
    """Check that every table, vector, and weight of a .tflite file lies inside the file.

    Given a truncated file, a runtime may crash the process or read past the end. Old runtimes check nothing.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The file is empty, not a .tflite file, truncated, or corrupt. The message names the file.
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
        raise ValueError(f"{path} is truncated or corrupt: it refers to data outside the file.") from None


def peak_memory() -> float | None:
    """Return the peak resident memory of this process in bytes; None if the system does not report it."""
    try:
        # On Linux, getrusage would begin with the peak of the parent process.
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


def milliseconds_since(start: int) -> float:
    return (time.perf_counter_ns() - start) / 1e6


def _natural(name: str) -> tuple:
    """Return a key that sorts output_2 before output_10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1)


def _random(detail: dict, generator: np.random.Generator) -> np.ndarray:
    """Return normally distributed values for a float input, values of the type's whole range for an integer input."""
    dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    raise ValueError(f"Input {detail['name']!r} has type {dtype}; only floats and integers can be filled.")


def quantized(values: np.ndarray, detail: dict) -> np.ndarray:
    """Return real numbers as a tensor stores them, by its scale and zero point."""
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / (scale or 1) + zero_point), limits.min, limits.max).astype(dtype)


def dequantized(values: np.ndarray, detail: dict) -> np.ndarray:
    """Return the real numbers that a tensor stores, by its scale and zero point."""
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float32) - zero_point) * scale if scale else values).astype(np.float32)


class Runner:
    """A .tflite file in this process. Each method without an underscore is a command."""

    def pin(self, cores: list) -> dict:
        """Let this process run only on some of the CPU cores."""
        if not hasattr(os, "sched_setaffinity"):
            raise ValueError("This system cannot pin a process to cores.")
        there = os.sched_getaffinity(0)
        if not set(cores) <= there:
            raise ValueError(f"There are no cores {sorted(set(cores) - there)}; this process may use {sorted(there)}.")
        os.sched_setaffinity(0, cores)
        return {}

    def open(self, file: str, threads: int = 1) -> dict:
        """Load the file. Return the name and version of the runtime, and the time it took."""
        interpreter, runtime = find_interpreter()
        check_file(file)
        self._memory_before = peak_memory()
        start = time.perf_counter_ns()
        self._interpreter = interpreter(model_path=file, num_threads=threads)
        return {"runtime": runtime, "load_ms": milliseconds_since(start)}

    def allocate(self) -> dict:
        """Plan memory and pack weights. Return the time it took, and the inputs and outputs."""
        start = time.perf_counter_ns()
        self._interpreter.allocate_tensors()
        elapsed = milliseconds_since(start)
        signed = len(self._interpreter.get_signature_list()) == 1
        signature = self._interpreter.get_signature_runner() if signed else None
        named = signature.get_input_details() if signature else {}
        names = {detail["index"]: name for name, detail in named.items()}
        self._inputs = self._interpreter.get_input_details()
        inputs = [self._described(detail, names.get(detail["index"])) for detail in self._inputs]
        # In the order of the signature, or in the converter's order without one.
        named = signature.get_output_details() if signature else {}
        ordered = sorted(named, key=_natural)
        self._outputs = [named[name] for name in ordered] or self._interpreter.get_output_details()
        outputs = [self._described(detail, ordered[i] if ordered else None) for i, detail in enumerate(self._outputs)]
        return {"allocate_ms": elapsed, "inputs": inputs, "outputs": outputs}

    @staticmethod
    def _described(detail: dict, signature: str | None) -> dict:
        return {
            "name": detail["name"],
            "signature": signature,
            # -1 for a size that is chosen at run time; here it is 1.
            "shape": [int(size) for size in detail.get("shape_signature", detail["shape"])],
            "dtype": np.dtype(detail["dtype"]).name,
        }

    def fill(self, seed: int = 0) -> dict:
        """Set the inputs to random numbers."""
        generator = np.random.default_rng(seed)
        for detail in self._inputs:
            self._interpreter.set_tensor(detail["index"], _random(detail, generator))
        return {}

    def invoke(self) -> dict:
        """Run the file once. Return the time of the invocation alone."""
        start = time.perf_counter_ns()
        self._interpreter.invoke()
        return {"ms": milliseconds_since(start)}

    def time(self, runs: int = 1, seconds: float = 0.0) -> dict:
        """Run the file at least so many times and for so long. Return the time of each invocation alone."""
        samples = []
        begin = time.perf_counter()
        while len(samples) < runs or time.perf_counter() - begin < seconds:
            samples.append(self.invoke()["ms"])
        return {"samples_ms": samples}

    def energy(self, seconds: float) -> dict:
        """Run the file for some time and read the power meanwhile; `watts` is empty without a sensor."""
        with sensors.PowerMeter() as meter:
            begin = time.perf_counter()
            runs = len(self.time(1, seconds)["samples_ms"])
            elapsed = time.perf_counter() - begin
        return {"watts": meter.watts, "runs": runs, "seconds": elapsed}

    def facts(self) -> dict:
        """Return what the machine is, and the runtimes that its Python has."""
        runtimes = []
        for package in [package for _, package in RUNTIMES] + ["onnxruntime"]:
            with contextlib.suppress(metadata.PackageNotFoundError):
                runtimes.append(f"{package} {metadata.version(package)}")
        return {**sensors.facts(), "python": ".".join(map(str, sys.version_info[:3])), "runtimes": runtimes}

    def sensors(self) -> dict:
        """Return the temperature, clock and power of the machine now."""
        return sensors.read()

    def run(self, inputs: list, outputs: list) -> dict:
        """Run the samples of a .npy file for each input in batches of the file's size, and write one for each output.

        Inputs and outputs are real numbers. A quantized tensor is converted with its own scale and zero point.
        """
        arrays = [np.load(path, allow_pickle=False) for path in inputs]
        batch_size = int(self._inputs[0]["shape"][0])
        results = [[] for _ in self._outputs]
        for first in range(0, len(arrays[0]), batch_size):
            for i, detail in enumerate(self._inputs):
                part = arrays[i][first : first + batch_size]
                full = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part), axis=0)])
                self._interpreter.set_tensor(detail["index"], quantized(full, detail))
            self._interpreter.invoke()
            for i, output in enumerate(self._outputs):
                values = self._interpreter.get_tensor(output["index"])
                results[i].append(dequantized(values, output)[: len(arrays[0]) - first])
        for i, path in enumerate(outputs):
            np.save(path, np.concatenate(results[i]), allow_pickle=False)
        return {}

    def operators(self) -> dict:
        """Return the operators of the graph, and after them the DELEGATE nodes that run some of them instead."""
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
        """Return the growth of peak memory since before the file was loaded, in megabytes (10^6 bytes)."""
        peak = peak_memory()
        return {"peak_memory_mb": None if peak is None else (peak - (self._memory_before or 0.0)) / 1e6}


def main(make_runner: Callable[[], Runner] = Runner) -> None:
    """Answer the requests on standard input with the runner that a function makes."""
    # Output of libraries must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    runner = make_runner()
    for line in sys.stdin:
        arguments = json.loads(line)
        command = arguments.pop("command")
        try:
            answer = getattr(runner, command)(**arguments)
        except Exception as error:  # Any error is an answer.
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
