"""Run a .tflite file on LiteRT's GPU accelerator, and answer the same requests about it as edge/devices/runner.py."""

from __future__ import annotations

import os
import sys
import time
from importlib import metadata
from types import SimpleNamespace

import numpy as np

from keras_vit.edge.devices.runner import Runner, check_file, find_interpreter, main, milliseconds_since, peak_memory
from keras_vit.utils.missing import needs

# A run that fails sooner than this has not failed for lack of time.
_GIVES_UP_S, _LONGEST_RUN_S = 60.0, 1200.0


class _Model:
    """A compiled model with the methods of a TensorFlow Lite interpreter."""

    def __init__(self, file: str, float32: bool, fallback: bool):
        import ai_edge_litert
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.environment import Environment, EnvironmentOptions
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import GpuOptions, Options

        folder = os.path.dirname(ai_edge_litert.__file__)
        accelerators = HardwareAccelerator.GPU | HardwareAccelerator.CPU if fallback else HardwareAccelerator.GPU
        self._model = CompiledModel.from_file(
            file,
            environment=Environment.create(options=EnvironmentOptions(runtime_path=folder)),
            options=Options(hardware_accelerators=accelerators, gpu_options=GpuOptions(enforce_f32=float32)),
        )
        self.accelerated = self._model.is_fully_accelerated()
        self._signature = next(iter(self._model.get_signature_list()))
        # The compiled model does not tell the scales and zero points.
        interpreter = find_interpreter()[0](model_path=file)
        if self._signature in interpreter.get_signature_list():
            signature = interpreter.get_signature_runner(self._signature)
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
        else:  # A file without a signature: its tensors have their own names.
            inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
            outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
        self._inputs, self._outputs = _named(inputs), _named(outputs)
        self._given = {name: self._model.create_input_buffer_by_name(self._signature, name) for name in self._inputs}
        self._taken = self._output_buffers()
        self._results: dict[str, np.ndarray] = {}

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict]:
        return list(self._inputs.values())

    def get_output_details(self) -> list[dict]:
        return list(self._outputs.values())

    def get_signature_list(self) -> dict:
        return {self._signature: {}}

    def get_signature_runner(self) -> SimpleNamespace:
        return SimpleNamespace(get_input_details=lambda: self._inputs, get_output_details=lambda: self._outputs)

    def set_tensor(self, name: str, values: np.ndarray) -> None:
        self._given[name].write(np.ascontiguousarray(values))

    def invoke(self) -> None:
        begin = time.monotonic()
        while True:
            start = time.monotonic()
            try:
                return self._run()
            except RuntimeError:
                # LiteRT waits two minutes for a result, but compiling the shaders of a first run may take longer.
                now = time.monotonic()
                if now - start < _GIVES_UP_S or now - begin > _LONGEST_RUN_S:
                    raise
                self._taken = self._output_buffers()  # The others stay locked.

    def _run(self) -> None:
        self._model.run_by_name(self._signature, self._given, self._taken)
        # The run may return before the GPU is done; reading waits for it.
        for name, detail in self._outputs.items():
            size = int(np.prod(detail["shape"]))
            self._results[name] = self._taken[name].read(size, detail["dtype"]).reshape(detail["shape"])

    def _output_buffers(self) -> dict:
        return {name: self._model.create_output_buffer_by_name(self._signature, name) for name in self._outputs}

    def get_tensor(self, name: str) -> np.ndarray:
        return self._results[name]


def _named(details: dict) -> dict[str, dict]:
    """Return the details of tensors, which a compiled model knows by name and not by number."""
    return {name: {**detail, "index": name} for name, detail in details.items()}


class GpuRunner(Runner):
    """A .tflite file on the GPU in this process.

    Args:
        float32: Whether to compute in float32; the accelerator's own choice is float16.
        fallback: Whether operators that the GPU does not run are run by the CPU.
    """

    def __init__(self, float32: bool, fallback: bool):
        self._float32, self._fallback = float32, fallback

    def open(self, file: str, threads: int = 1) -> dict:
        """Compile the file for the GPU. Return the runtime, the time it took, and whether the GPU runs all of it."""
        with needs("ai-edge-litert", "running files on a GPU", "edge"):
            import ai_edge_litert.compiled_model  # noqa: F401
        check_file(file)
        self._memory_before = peak_memory()
        start = time.perf_counter_ns()
        try:
            self._interpreter = _Model(file, self._float32, self._fallback)
        except RuntimeError as error:
            raise ValueError(f"the GPU does not run it ({error})") from None
        return {
            "runtime": f"ai-edge-litert {metadata.version('ai-edge-litert')}, GPU",
            "load_ms": milliseconds_since(start),
            "accelerated": self._interpreter.accelerated,
        }


if __name__ == "__main__":
    main(lambda: GpuRunner("float32" in sys.argv, "fallback" in sys.argv))
