"""Run an .onnx file with onnxruntime, and answer the same requests about it as edge/devices/runner.py.

It is a script like that one, but needs keras_vit itself.
"""

from __future__ import annotations

import time

import numpy as np

from keras_vit.edge.devices.runner import Runner, main, milliseconds_since, peak_memory
from keras_vit.utils.missing import needs


class _Session:
    """An onnxruntime session with the methods of a TensorFlow Lite interpreter."""

    def __init__(self, onnxruntime, content: bytes, threads: int):
        self._runtime, self._content = onnxruntime, content
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3

    def allocate_tensors(self) -> None:
        self._session = self._runtime.InferenceSession(self._content, self._options, providers=["CPUExecutionProvider"])
        self._inputs, self._outputs = self._session.get_inputs(), self._session.get_outputs()
        self._values: dict[str, np.ndarray] = {}
        self._results: list[np.ndarray] = []

    def get_input_details(self) -> list[dict]:
        return [_details(argument, argument.name) for argument in self._inputs]

    def get_output_details(self) -> list[dict]:
        return [_details(argument, index) for index, argument in enumerate(self._outputs)]

    def get_signature_list(self) -> dict:
        return {}

    def set_tensor(self, name: str, values: np.ndarray) -> None:
        self._values[name] = values

    def invoke(self) -> None:
        self._results = self._session.run(None, self._values)

    def get_tensor(self, index: int) -> np.ndarray:
        return self._results[index]


class OnnxRunner(Runner):
    """An .onnx file in this process."""

    def open(self, file: str, threads: int = 1) -> dict:
        """Load the file. Return the name and version of the runtime, and the time it took."""
        with needs("onnxruntime", "running ONNX files", "onnx"):
            import onnxruntime
        self._memory_before = peak_memory()
        start = time.perf_counter_ns()
        try:
            with open(file, "rb") as opened:
                content = opened.read()
        except OSError as error:
            raise type(error)(f"{file} cannot be opened: {error.strerror}.") from None
        if not content:
            raise ValueError(f"{file} is empty.")
        self._interpreter = _Session(onnxruntime, content, threads)
        return {"runtime": f"onnxruntime {onnxruntime.__version__}", "load_ms": milliseconds_since(start)}


def _details(argument, index) -> dict:
    """Return what a TensorFlow Lite interpreter would say about a tensor."""
    kind = argument.type.removeprefix("tensor(").removesuffix(")")
    signature = [size if isinstance(size, int) else -1 for size in argument.shape]
    return {
        "name": argument.name,
        "index": index,
        "shape": [1 if size == -1 else size for size in signature],
        "shape_signature": signature,
        "dtype": np.dtype({"float": "float32", "double": "float64"}.get(kind, kind)),
        "quantization": (0.0, 0),
    }


if __name__ == "__main__":
    main(OnnxRunner)
