"""Find out what in a .tflite file a device will not run fast, which layer it comes from, and why."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.xnnpack import why_outside
from keras_vit.edge.files.op_versions import min_runtime
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
        runtime: The name and version of the runtime.
        partitions: The number of pieces into which the CPU delegate (XNNPACK) of this runtime cuts the graph. The
            operators between them run without it.
        findings: The findings, the most severe first; empty if the delegate runs every operator.
        min_runtime: The oldest TensorFlow Lite release that has every operator in the version that the file uses, such
            as "2.17.0"; None if it is not known.
        ops: The number of occurrences of each operator.
    """

    file: str
    target: str
    runtime: str
    partitions: int
    findings: list[Finding]
    min_runtime: str | None
    ops: Counter[str]

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return {**asdict(self), "ops": dict(self.ops)}

    def __str__(self) -> str:
        pieces = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        oldest = self.min_runtime or "(unknown)"
        lines = [
            f"{os.path.basename(self.file)} on {self.target} with {self.runtime}",
            f"{sum(self.ops.values())} operators in {pieces}; runs on TensorFlow Lite {oldest} or newer",
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


# The checks for each target.
_TARGETS: dict[str, tuple[Callable[[_Subject], Iterator[Finding]], ...]] = {
    "cpu": (_not_builtin, _dynamic, _outside_xnnpack, _above_rank_4, _float16_weights),
}
_SEVERITIES = ("error", "warning", "info")


def audit(file: str | os.PathLike, target: str = "cpu") -> Audit:
    """Load a .tflite file with the runtime of this machine and find out what a device will not run fast.

    Args:
        file: The .tflite file.
        target: The kind of device. The only one is "cpu": what the XNNPACK delegate of the installed runtime runs.

    Returns:
        The partitions, the findings, and what else is known of the file.

    Raises:
        ValueError: The target is unknown, or the file is empty, truncated, corrupt, or not a .tflite file.
        OSError: The file is missing or cannot be read.
        ImportError: ai-edge-litert is not installed. The message gives the pip command.
        RuntimeError: The file crashed the runtime.
    """
    if target not in _TARGETS:
        raise ValueError(f"target must be one of {', '.join(map(repr, _TARGETS))}; received {target!r}.")
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
    findings = [finding for check in _TARGETS[target] for finding in check(subject)]
    if refusal and not any(operator.custom for operator in subject.operators):
        findings.append(Finding("error", "", "", f"{runtime} cannot run it: {refusal}"))
    findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return Audit(
        file=interpreter.file,
        target=target,
        runtime=runtime,
        partitions=sum(node["name"] == "DELEGATE" for node in nodes),
        findings=findings,
        min_runtime=min_runtime(graph),
        ops=Counter(operator.name for operator in subject.operators),
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
