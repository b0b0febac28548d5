"""Measure the time of each operator of a .tflite file by LiteRT's own profiler, and what the machine can do at best.

It answers requests as edge/devices/runner.py does. Python's interpreter does not have the profiler, so LiteRT's C
library in the wheel is called. Its events are read one by one: the table that it makes of them has one line for all
kernels of a kind that stand at the same place in their parts of the graph, and there is a part for each operator that
no delegate runs.

    {"command": "profile", "file": PATH, "runs": 50}  -> runtime, nodes: the fields of each `tables.Node`,
                                                         run_ms: the mean time of a profiled run
    {"command": "bandwidth"}                          -> gb_per_s: of reading and writing memory
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import time
from importlib import metadata

import numpy as np

from keras_vit.edge.devices.runner import Runner, check_file, main, milliseconds_since

_CPU = 1
_WRITE = 1
_OPERATOR, _KERNEL_OF_DELEGATE = 2, 8  # Types of events.
_WARMUP_RUNS = 10
_COPIED_BYTES = 256 << 20


class _Layout(ctypes.Structure):
    _fields_ = [
        ("bits", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class _TensorType(ctypes.Structure):
    _fields_ = [("element_type", ctypes.c_int32), ("layout", _Layout)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    ]


class _Library:
    """LiteRT's C library. Each call that fails raises a RuntimeError with its name."""

    def __init__(self):
        found = importlib.util.find_spec("ai_edge_litert")
        if found is None or found.origin is None:
            raise ImportError("Profiles need ai-edge-litert: run `python3 -m pip install ai-edge-litert`.")
        path = os.path.join(os.path.dirname(found.origin), "libLiteRt.so")
        if not os.path.exists(path):
            raise ImportError(
                f"This release of ai-edge-litert has no {os.path.basename(path)}; install 2.1.4 or newer."
            )
        self._library = ctypes.CDLL(path)

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")

    def made(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Return the object that a function makes, which is its last argument."""
        result = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(result))
        return result


class _Profile:
    """A compiled model with a profiler."""

    def __init__(self, file: str):
        library = self._library = _Library()
        environment = library.made("LiteRtCreateEnvironment", ctypes.c_int(0), None)
        model = library.made("LiteRtCreateModelFromFile", environment, os.fsencode(file))
        options = library.made("LiteRtCreateOptions")
        library.call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        self._payload = ctypes.create_string_buffer(b"enable_profiling = true\n")
        self._keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda payload: None)
        settings = library.made("LiteRtCreateOpaqueOptions", b"runtime_options_string", self._payload, self._keep)
        library.call("LiteRtAddOpaqueOptions", options, settings)
        self._model = library.made("LiteRtCreateCompiledModel", environment, model, options)
        signature = library.made("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")
        self._profiler = library.made("LiteRtCompiledModelGetProfiler", self._model)

    def _buffers(self, environment, signature, kind: str) -> ctypes.Array:
        """Return a buffer for each input or output; inputs are filled with random numbers."""
        library, count = self._library, ctypes.c_size_t()
        library.call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        buffers = (ctypes.c_void_p * count.value)()
        for i in range(count.value):
            tensor = library.made(f"LiteRtGetSignature{kind}TensorByIndex", signature, ctypes.c_size_t(i))
            kind_of_tensor = _TensorType()
            library.call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind_of_tensor))
            needed = library.made(
                f"LiteRtGetCompiledModel{kind}BufferRequirements", self._model, ctypes.c_size_t(0), ctypes.c_size_t(i)
            )
            buffer = library.made(
                "LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind_of_tensor), needed
            )
            if kind == "Input":
                self._fill(buffer)
            buffers[i] = buffer.value
        return buffers

    def _fill(self, buffer: ctypes.c_void_p) -> None:
        library, size, address = self._library, ctypes.c_size_t(), ctypes.c_void_p()
        library.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        # Any bytes of small floats are also small integers of other types.
        values = np.random.default_rng(0).standard_normal(-(-size.value // 4)).astype(np.float32)
        library.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(_WRITE))
        ctypes.memmove(address, values.ctypes.data, size.value)
        library.call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> float:
        """Run the model and return the time in milliseconds."""
        start = time.perf_counter_ns()
        self._library.call(
            "LiteRtRunCompiledModel",
            self._model,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self._inputs)),
            self._inputs,
            ctypes.c_size_t(len(self._outputs)),
            self._outputs,
        )
        return milliseconds_since(start)

    def profiled(self, runs: int) -> tuple[list[tuple[str, float, bool, str]], list[float]]:
        """Return the nodes with their mean times over some runs, in the order in which they run, and the run times."""
        for _ in range(_WARMUP_RUNS):
            self.run()
        sums: dict[tuple[int, str, bool, str], int] = {}
        times = []
        for _ in range(runs):
            self._library.call("LiteRtResetProfiler", self._profiler)
            self._library.call("LiteRtStartProfiler", self._profiler)
            times.append(self.run())
            self._library.call("LiteRtStopProfiler", self._profiler)
            for place, event in enumerate(self._events()):
                if event.type in (_OPERATOR, _KERNEL_OF_DELEGATE):
                    kind = event.tag.decode(errors="replace")
                    node = place, kind, event.type == _KERNEL_OF_DELEGATE, f"{kind}:{event.metadata[0]}"
                    sums[node] = sums.get(node, 0) + event.elapsed_us
        return [(kind, us / runs / 1000, delegated, name) for (_, kind, delegated, name), us in sums.items()], times

    def _events(self) -> ctypes.Array:
        count = ctypes.c_int()
        self._library.call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._library.call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return events


class ProfileRunner(Runner):
    """Profiles files in this process. It also answers the requests of any runner."""

    def profile(self, file: str, runs: int = 50) -> dict:
        """Return the times by operator."""
        check_file(file)
        nodes, times = _Profile(file).profiled(runs)
        # The nodes have means, so the whole is a mean as well.
        runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
        return {"runtime": runtime, "nodes": nodes, "run_ms": float(np.mean(times))}

    def bandwidth(self) -> dict:
        """Return the bytes per second that copying a large array reads and writes, in gigabytes."""
        source = np.ones(_COPIED_BYTES // 8)
        target = np.empty_like(source)
        best = np.inf
        for _ in range(6):  # The first touches memory for the first time.
            start = time.perf_counter()
            np.copyto(target, source)
            best = min(best, time.perf_counter() - start)
        return {"gb_per_s": 2 * _COPIED_BYTES / best / 1e9}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(ProfileRunner)
