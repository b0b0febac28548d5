"""Run a .tflite file that was compiled for a Qualcomm NPU on Qualcomm's x86 emulation of it.

It answers the same requests as edge/devices/runner.py. Its arguments are the chip and the file before compilation,
which has the scales and names of inputs and outputs. The compiled file holds a context of QNN, which onnxruntime's QNN
provider runs as the only node of an ONNX graph.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from importlib import metadata
from types import SimpleNamespace

import numpy as np

from keras_vit.edge.devices.runner import Runner, find_interpreter, main, milliseconds_since, peak_memory
from keras_vit.utils.missing import needs

# QNN's numbers of chips. Source: QnnHtpDevice.h of the QNN SDK, and onnxruntime's documentation of `soc_model`.
_NUMBERS = {"SM8350": 30, "SM8450": 36, "SM8550": 43, "SM8650": 57, "SM8750": 69}


class _Emulation:
    """A compiled file with the methods of a TensorFlow Lite interpreter."""

    def __init__(self, compiled: str, original: str, soc: str):
        import onnx
        import onnxruntime
        import onnxruntime_qnn

        name, context, inputs, outputs = _context(compiled)
        interpreter = find_interpreter()[0](model_path=original)
        self._signatures = list(interpreter.get_signature_list())
        self._signature = interpreter.get_signature_runner() if len(self._signatures) == 1 else None
        self._inputs = _by_order(interpreter.get_input_details(), inputs)
        self._outputs = _by_order(interpreter.get_output_details(), outputs)
        helper = onnx.helper
        ends = [
            [
                helper.make_tensor_value_info(
                    _plain(end),
                    helper.np_dtype_to_tensor_dtype(np.dtype(detail["dtype"])),
                    list(map(int, detail["shape"])),
                )
                for end, detail in zip(names, details, strict=True)
            ]
            for names, details in ((inputs, self._inputs), (outputs, self._outputs))
        ]
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "context.bin"), "wb") as file:
                file.write(context)
            node = helper.make_node(
                "EPContext",
                [_plain(end) for end in inputs],
                [_plain(end) for end in outputs],
                name=name,
                domain="com.microsoft",
                embed_mode=0,
                ep_cache_context="context.bin",
                main_context=1,
                source="QNN",
                partition_name=name,
            )
            domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
            graph = helper.make_graph([node], "npu", ends[0], ends[1])
            path = os.path.join(folder, "npu.onnx")
            onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), path)
            onnxruntime.register_execution_provider_library("QNNExecutionProvider", onnxruntime_qnn.get_library_path())
            devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "QNNExecutionProvider"]
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            given = {"backend_path": onnxruntime_qnn.get_qnn_htp_path()}
            if soc in _NUMBERS:
                given["soc_model"] = str(_NUMBERS[soc])
            options.add_provider_for_devices(devices[:1], given)
            self._session = onnxruntime.InferenceSession(path, options)
        self._names = {detail["index"]: _plain(end) for end, detail in zip(inputs, self._inputs, strict=True)}
        self._values: dict[str, np.ndarray] = {}
        self._results: dict[int, np.ndarray] = {}

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict]:
        return self._inputs

    def get_output_details(self) -> list[dict]:
        return self._outputs

    def get_signature_list(self) -> list[str]:
        return self._signatures

    def get_signature_runner(self) -> SimpleNamespace | None:
        return self._signature

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        self._values[self._names[index]] = np.ascontiguousarray(values)

    def invoke(self) -> None:
        results = self._session.run(None, self._values)
        self._results = {detail["index"]: value for detail, value in zip(self._outputs, results, strict=True)}

    def get_tensor(self, index: int) -> np.ndarray:
        return self._results[index]


def _context(compiled: str) -> tuple[str, bytes, list[str], list[str]]:
    """Return the name and the content of the QNN context in a compiled file, and its inputs' and outputs' names.

    Raises:
        ValueError: Some operators are left to the CPU, so that the file is in pieces.
    """
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    with open(compiled, "rb") as file:
        content = file.read()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    if len(graph.operators) != 1:
        raise ValueError(
            "the NPU does not run all of it, and the emulation runs only whole files; `keras-vit compile` says what is "
            "left to the CPU"
        )
    (operator,) = graph.operators
    if operator.customOptions is not None:
        options = bytes(bytearray(operator.customOptions))
    else:
        start = operator.largeCustomOptionsOffset
        options = content[start : start + operator.largeCustomOptionsSize]
    given = flexbuffers.GetRoot(options).AsMap
    values: dict[str, int | str | None] = {}
    for key in given.Keys:
        value = given[key.AsKey]
        values[key.AsKey] = value.AsInt if value.IsInt else value.AsString if value.IsString else None
    offset = next(int(value or 0) for key, value in values.items() if "offset" in key)
    size = next(int(value or 0) for key, value in values.items() if "size" in key)
    inputs, outputs = [[graph.tensors[i].name.decode() for i in ends] for ends in (operator.inputs, operator.outputs)]
    return str(values["name"]), content[offset : offset + size], inputs, outputs


def _by_order(details: list[dict], names: list[str]) -> list[dict]:
    """Return the details of tensors in the order of their names, or as they are if the names are others."""
    by_name = {detail["name"]: detail for detail in details}
    return [by_name[name] for name in names] if set(names) == by_name.keys() else details


def _plain(name: str) -> str:
    """Return a tensor's name as the QNN context has it."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


class NpuRunner(Runner):
    """A compiled file in this process.

    Args:
        soc: The chip.
        original: The file before compilation.
    """

    def __init__(self, soc: str, original: str):
        self._soc, self._original = soc, original

    def open(self, file: str, threads: int = 1) -> dict:
        """Load the compiled file. Return the runtime, and the time it took."""
        with needs("onnxruntime-qnn", "running files on an emulated NPU", "qualcomm"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxruntime_qnn  # noqa: F401
        self._memory_before = peak_memory()
        start = time.perf_counter_ns()
        self._interpreter = _Emulation(file, self._original, self._soc)
        runtime = f"onnxruntime-qnn {metadata.version('onnxruntime-qnn')}, emulated {self._soc}"
        return {"runtime": runtime, "load_ms": milliseconds_since(start)}


if __name__ == "__main__":
    main(lambda: NpuRunner(*sys.argv[1:3]))
