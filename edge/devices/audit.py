"""Tells what in a .tflite file a device will not run fast, which layer it comes from, and why."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.xnnpack import why_outside
from keras_vit.edge.files.op_versions import parsed, release
from keras_vit.edge.files.tflite_graph import Graph, Operator, read_graph
from keras_vit.utils.tables import table

_MOBILE_GPU_RANK = 4


@dataclass(frozen=True)
class Finding:
    """One thing that a device will not run fast, or not at all.

    Attributes:
        severity: "error" when a device will not run it, "warning" when it costs speed, "info" otherwise.
        op: the operator's name.
        layer: the Keras layer it comes from, as far as the file's names still tell.
        reason: why, and what would do.
    """

    severity: str
    op: str
    layer: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """What the audit of a file found.

    Attributes:
        file, target, runtime: what was audited, for what, with which runtime.
        partitions: into how many pieces the CPU delegate (XNNPACK) of this runtime cuts the graph; what lies
            between them runs without it.
        findings: the most severe first; empty when the delegate takes everything.
        min_runtime: the oldest TensorFlow Lite that knows every operator in the file's version of it, such as
            "2.17.0"; None when neither the table of releases nor the file tells.
        ops: how often each operator occurs.
    """

    file: str
    target: str
    runtime: str
    partitions: int
    findings: list[Finding]
    min_runtime: str | None
    ops: Counter[str]

    def to_dict(self) -> dict:
        """The attributes, ready for JSON."""
        return {**asdict(self), "ops": dict(self.ops)}

    def __str__(self) -> str:
        pieces = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        oldest = self.min_runtime or "(unknown)"
        lines = [
            f"{os.path.basename(self.file)} on {self.target} with {self.runtime}",
            f"{sum(self.ops.values())} operators in {pieces}; runs on TensorFlow Lite {oldest} or newer",
            ", ".join(f"{name} {count}" for name, count in self.ops.most_common()),
        ]
        # A block's findings recur in every block: one line tells how often and where first.
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
    """What the checks look at: the file's graph, and which of its operators the delegate left."""

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
                f"{kind} operator, not one of LiteRT's builtins; write the layer with other operations",
            )


def _dynamic(subject: _Subject) -> Iterator[Finding]:
    advice = "mobile GPU delegates refuse it and the CPU plans memory at every run; export with static shapes"
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
                f"gives a tensor of rank {rank}; mobile GPU delegates take rank {_MOBILE_GPU_RANK} at most",
            )


def _float16_weights(subject: _Subject) -> Iterator[Finding]:
    for operator in subject.operators:
        weights = operator.inputs[0] if operator.name == "DEQUANTIZE" else None
        if weights and weights.constant and weights.dtype == "FLOAT16":
            yield Finding(
                "info",
                operator.name,
                operator.layer,
                "float16 weights become float32 when the file is opened: a smaller file, no faster on a CPU",
            )


# The checks that matter for each target.
_TARGETS: dict[str, tuple[Callable[[_Subject], Iterator[Finding]], ...]] = {
    "cpu": (_not_builtin, _dynamic, _outside_xnnpack, _above_rank_4, _float16_weights),
}
_SEVERITIES = ("error", "warning", "info")


def audit(file: str | os.PathLike, target: str = "cpu") -> Audit:
    """Opens a .tflite file with this machine's runtime and tells what a device will not run fast.

    Args:
        file: the .tflite file.
        target: the kind of device; "cpu" asks the XNNPACK delegate of the runtime that is installed here.

    Raises:
        ValueError: the target is unknown, or the file is empty, truncated, corrupt or no .tflite file.
        OSError: the file is missing or cannot be read.
        ImportError: ai-edge-litert is not installed; the message has the pip line.
        RuntimeError: the file crashed the runtime.
    """
    if target not in _TARGETS:
        raise ValueError(f"target is {target!r}; these exist: {', '.join(map(repr, _TARGETS))}.")
    with Interpreter(file) as interpreter:
        graph = read_graph(Path(interpreter.file).read_bytes())
        refusal = None
        try:
            interpreter.allocate()
        except ValueError as error:  # the delegate has taken its share before an operator is refused
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
        min_runtime=_min_runtime(graph),
        ops=Counter(operator.name for operator in subject.operators),
    )


def _outside(graph: Graph, nodes: list[dict]) -> list[Operator]:
    """The main graph's operators that no delegate took.

    The runtime lists all of them, and after them the DELEGATE nodes with the tensors that go in and out. What
    one of these took is what lies between, walking back from its outputs to its inputs.
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


def _min_runtime(graph: Graph) -> str | None:
    used = {(operator.name, operator.version) for operator in graph.operators + graph.nested if not operator.custom}
    releases = [release(name, version) for name, version in used]
    known = [numbers for numbers in releases if numbers is not None]
    if len(known) < len(releases):
        if not graph.min_runtime:
            return None
        known.append(parsed(graph.min_runtime))
    return ".".join(map(str, max(known))) if known else None
