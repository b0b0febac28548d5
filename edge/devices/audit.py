"""Find out what in a .tflite file a device will not run fast, which layer it comes from, and why."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from keras_vit.edge.devices.compilation import CompilationError, compile
from keras_vit.edge.devices.edge_tpu import why_refused
from keras_vit.edge.devices.gpu import refusals
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.devices.tensor_rt import onnx_problems
from keras_vit.edge.devices.xnnpack import why_outside
from keras_vit.edge.files.op_versions import min_runtime
from keras_vit.edge.files.single_operator import single_operator_file
from keras_vit.edge.files.tflite_graph import Graph, Operator, read_graph
from keras_vit.utils.tables import table

_MOBILE_GPU_RANK = 4


@dataclass(frozen=True)
class Finding:
    """Something in a file that a device does not run fast, or not at all.

    Attributes:
        severity: "error" if a device does not run it, "warning" if it costs speed, "info" otherwise.
        op: The name of the operator.
        layer: The Keras layer that it comes from, as far as the names in the file show.
        reason: The reason, and what to do about it.
    """

    severity: str
    op: str
    layer: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """The result of an audit. It prints as a table.

    Attributes:
        file: The file.
        target: The kind of device that it was audited for.
        runtime: The name and version of what was asked: a runtime, a compiler, or rules.
        evidence: "runtime" or "compiler" if the real one decided, "rules" if only rules with their source did.
        partitions: The number of pieces of the graph that the target runs: its CPU delegate (XNNPACK), its GPU or its
            NPU. The operators between them run more slowly. None if it is not known.
        findings: The findings, the most severe first; empty if the delegate runs every operator.
        min_runtime: The oldest TensorFlow Lite release that has every operator in the version that the file uses, such
            as "2.17.0"; None if it is not known.
        ops: The number of occurrences of each operator.
    """

    file: str
    target: str
    runtime: str
    evidence: str
    partitions: int | None
    findings: list[Finding]
    min_runtime: str | None
    ops: Counter[str]

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return {**asdict(self), "ops": dict(self.ops)}

    def __str__(self) -> str:
        pieces = {None: "an unknown number of partitions", 1: "1 partition"}.get(
            self.partitions, f"{self.partitions} partitions"
        )
        oldest = f"; runs on TensorFlow Lite {self.min_runtime} or newer" if self.min_runtime else ""
        lines = [
            f"{os.path.basename(self.file)} on {self.target}, by {_EVIDENCE[self.evidence]}: {self.runtime}",
            f"{sum(self.ops.values())} operators in {pieces}{oldest}",
            ", ".join(f"{name} {count}" for name, count in self.ops.most_common()),
        ]
        # The findings of a block recur in every block: one line gives their number and the first layer.
        layers = defaultdict(list)
        for finding in self.findings:
            layers[finding.severity, finding.op, finding.reason].append(finding.layer)
        rows = [
            (severity, op, f"{len(where)}", where[0] + (", ..." if len(where) > 1 else ""), reason)
            for (severity, op, reason), where in layers.items()
        ]
        lines.append(table(("severity", "op", "count", "layer", "reason"), rows) if rows else "No findings.")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Subject:
    """What the checks look at: the graph of the file, and its operators that the delegate does not run."""

    graph: Graph
    outside: list[Operator]

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self.graph.operators + self.graph.nested


def _not_builtin(subject: _Subject) -> Iterator[Finding]:
    for operator in subject.operators:
        if operator.custom:
            kind = "a TensorFlow (Flex)" if operator.name.startswith("Flex") else "a custom"
            yield Finding(
                "error",
                operator.name,
                operator.layer,
                f"{kind} operator, which LiteRT does not have built in; write the layer with other operations",
            )


def _dynamic(subject: _Subject) -> Iterator[Finding]:
    advice = "mobile GPU delegates do not run it, and a CPU plans memory at every run; export with static shapes"
    for tensor in subject.graph.inputs:
        if tensor.dynamic:
            yield Finding("error", "INPUT", tensor.name, f"the shape {tensor.shape} is dynamic: {advice}")
    for operator in subject.operators:
        dynamic = [tensor.shape for tensor in operator.outputs if tensor.dynamic]
        if dynamic and not any(tensor.dynamic for tensor in operator.inputs):
            yield Finding("error", operator.name, operator.layer, f"gives the dynamic shape {dynamic[0]}: {advice}")


def _outside_xnnpack(subject: _Subject) -> Iterator[Finding]:
    for operator in subject.outside:
        if not operator.custom:
            yield Finding("warning", operator.name, operator.layer, why_outside(operator))


def _above_rank_4(subject: _Subject) -> Iterator[Finding]:
    for operator in subject.operators:
        rank = max((len(tensor.shape) for tensor in operator.outputs), default=0)
        if rank > _MOBILE_GPU_RANK:
            yield Finding(
                "warning",
                operator.name,
                operator.layer,
                f"gives a tensor of rank {rank}; mobile GPU delegates support rank {_MOBILE_GPU_RANK} at most",
            )


def _float16_weights(subject: _Subject) -> Iterator[Finding]:
    for operator in subject.operators:
        weights = operator.inputs[0] if operator.name == "DEQUANTIZE" else None
        if weights and weights.constant and weights.dtype == "FLOAT16":
            yield Finding(
                "info",
                operator.name,
                operator.layer,
                "float16 weights become float32 when the file is loaded: the file is smaller, but no faster on a CPU",
            )


_CPU_CHECKS: tuple[Callable[[_Subject], Iterator[Finding]], ...] = (
    _not_builtin,
    _dynamic,
    _outside_xnnpack,
    _above_rank_4,
    _float16_weights,
)
_SEVERITIES = ("error", "warning", "info")


def audit(file: str | os.PathLike, target: str = "cpu") -> Audit:
    """Find out what in a file a device will not run fast, or not at all, and which layers it comes from.

    Args:
        file: The .tflite file; for "jetson", the .onnx file.
        target: The kind of device:
            "cpu": what the XNNPACK delegate of the installed runtime runs.
            "gpu": what LiteRT's accelerator runs on the GPU of this machine.
            "npu:SOC", such as "npu:SM8750": what LiteRT's compiler for the NPU of a chip compiles.
            "edgetpu": what Google's Edge TPU runs, by rules.
            "jetson": what TensorRT takes, by rules.

    Returns:
        The partitions, the findings, and what else is known of the file.

    Raises:
        ValueError: The target is unknown, or the file is empty, truncated, corrupt, or of another kind.
        OSError: The file is missing or cannot be read.
        ImportError: A runtime or a compiler is not installed. The message gives the pip command.
        RuntimeError: The file crashed the runtime.
    """
    kind = target.partition(":")[0]
    if kind not in _TARGETS:
        raise ValueError(f"target must be one of {', '.join(map(repr, _TARGETS))} (with a chip); received {target!r}.")
    return _TARGETS[kind](os.fspath(file), target)


def _audit_cpu(file: str, target: str) -> Audit:
    with Interpreter(file) as interpreter:
        graph = read_graph(Path(interpreter.file).read_bytes())
        refusal = None
        try:
            interpreter.allocate()
        except ValueError as error:  # The delegate has its operators before another one fails.
            refusal = str(error).removeprefix(f"{interpreter.file}: ")
        nodes = interpreter.request("operators")["operators"]
        runtime = interpreter.runtime
    subject = _Subject(graph, _outside(graph, nodes))
    findings = [finding for check in _CPU_CHECKS for finding in check(subject)]
    if refusal and not any(operator.custom for operator in subject.operators):
        findings.append(Finding("error", "", "", f"{runtime} cannot run it: {refusal}"))
    return _result(file, target, runtime, "runtime", sum(node["name"] == "DELEGATE" for node in nodes), findings, graph)


def _audit_gpu(file: str, target: str) -> Audit:
    check_file(file)
    content = Path(file).read_bytes()
    graph = read_graph(content)
    findings = []
    try:
        refused = refusals(file)
    except RuntimeError:
        crashing = _refused_alone(content, graph, graph.operators)
        if not crashing:
            raise
        refused = []
        findings = [Finding("error", each.name, each.layer, "the accelerator crashes on it") for each in crashing]
    for name, reason in refused:
        # A reason may name a tensor in quotation marks; otherwise it is about some operators of the kind.
        quoted = set(re.findall(r'"([^"]+)"', reason))
        same = [operator for operator in graph.operators if operator.name == name]
        named = [each for each in same if quoted & {tensor.name for tensor in (*each.inputs, *each.outputs)}]
        blamed = named or _refused_alone(content, graph, same) or same
        findings += [Finding("error", name, operator.layer, reason) for operator in blamed]
        if not same:
            findings.append(Finding("error", name, "", reason))
    runtime = f"LiteRT {metadata.version('ai-edge-litert')}, GPU accelerator"
    return _result(file, target, runtime, "runtime", None if findings else 1, findings, graph)


def _refused_alone(content: bytes, graph: Graph, operators: Sequence[Operator]) -> list[Operator]:
    """Return those of some operators that the GPU refuses, or crashes on, when each is the only one in a file."""
    numbers = {id(operator): number for number, operator in enumerate(graph.operators)}
    verdicts: dict[tuple, bool] = {}  # By all that the accelerator may look at.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "operator.tflite")

        def is_refused(operator: Operator) -> bool:
            tensors = [
                (each.shape, each.dtype, each.constant, each.quantized)
                for each in (*operator.inputs, *operator.outputs)
            ]
            form = (*tensors, operator.name, operator.version, operator.options and repr(vars(operator.options)))
            if form not in verdicts:
                with open(path, "wb") as file:
                    file.write(single_operator_file(content, numbers[id(operator)]))
                try:
                    verdicts[form] = bool(refusals(path))
                except RuntimeError:
                    verdicts[form] = True
            return verdicts[form]

        return list(filter(is_refused, operators))


def _audit_npu(file: str, target: str) -> Audit:
    soc = target.partition(":")[2]
    runtime = f"LiteRT {metadata.version('ai-edge-litert')}, compiler for {soc}"
    partitions: int | None = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            compilation = compile(file, os.path.join(folder, "compiled.tflite"), soc)
        except CompilationError as error:
            findings = [Finding("error", error.op, error.layer, error.reason)]
        else:
            partitions = compilation.partitions
            findings = [Finding("error", left.op, left.layer, left.reason) for left in compilation.refusals]
    graph = read_graph(Path(file).read_bytes())
    return _result(file, target, runtime, "compiler", partitions, findings, graph)


def _audit_edge_tpu(file: str, target: str) -> Audit:
    check_file(file)
    graph = read_graph(Path(file).read_bytes())
    reasons = ((operator, why_refused(operator)) for operator in graph.operators)
    findings = [Finding("error", operator.name, operator.layer, reason) for operator, reason in reasons if reason]
    # Its compiler takes the operators up to the first one that it refuses; all others run on the CPU.
    partitions = 1 if not findings else None
    return _result(file, target, "the Edge TPU's documentation", "rules", partitions, findings, graph)


def _audit_jetson(file: str, target: str) -> Audit:
    if not file.endswith(".onnx"):
        raise ValueError(
            f"TensorRT takes .onnx files; received {file!r}. Export one with edge.export(model, 'model.onnx')."
        )
    ops, problems = onnx_problems(file)
    findings = [Finding(*problem) for problem in problems]
    findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return Audit(file, target, "TensorRT's documentation", "rules", None, findings, None, ops)


_TARGETS = {
    "cpu": _audit_cpu,
    "gpu": _audit_gpu,
    "npu": _audit_npu,
    "edgetpu": _audit_edge_tpu,
    "jetson": _audit_jetson,
}
_EVIDENCE = {"runtime": "the runtime itself", "compiler": "the compiler itself", "rules": "rules, not by trying"}


def _result(
    file: str, target: str, runtime: str, evidence: str, partitions: int | None, findings: list[Finding], graph: Graph
) -> Audit:
    return Audit(
        file=file,
        target=target,
        runtime=runtime,
        evidence=evidence,
        partitions=partitions,
        findings=sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)),
        min_runtime=min_runtime(graph),
        ops=Counter(operator.name for operator in graph.operators + graph.nested),
    )


def _outside(graph: Graph, nodes: list[dict]) -> list[Operator]:
    """Return the operators of the main graph that no delegate runs.

    The runtime lists all operators, and after them the DELEGATE nodes with their inputs and outputs. The operators that
    such a node runs are those on the way back from its outputs to its inputs.
    """
    producer = {tensor.index: i for i, operator in enumerate(graph.operators) for tensor in operator.outputs}
    taken = set()
    for node in nodes:
        if node["name"] != "DELEGATE":
            continue
        given, wanted = set(node["inputs"]), list(node["outputs"])
        while wanted:
            tensor = wanted.pop()
            i = producer.get(tensor)
            if tensor not in given and i is not None and i not in taken:
                taken.add(i)
                wanted.extend(tensor.index for tensor in graph.operators[i].inputs)
    return [operator for i, operator in enumerate(graph.operators) if i not in taken]
