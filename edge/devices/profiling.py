"""Where the time of a file goes, by operator, layer and part of a transformer, and how near each is to the limit."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_vit.edge.devices.alignment import align
from keras_vit.edge.devices.device import find_device
from keras_vit.edge.devices.parts import PARTS, bytes_of, macs_of, part_of, precision_of
from keras_vit.edge.devices.peaks import Peaks, measure_peaks
from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.devices.tables import Node, read_nodes
from keras_vit.edge.files.tflite_graph import Graph, read_graph
from keras_vit.utils.tables import table

_OUTSIDE = "between operators"
_LARGEST = 15
# XNNPACK cuts the time of each kernel in each run to whole microseconds, which takes half of one away on average.
_CUT_MS = 0.0005


@dataclass(frozen=True)
class Entry:
    """An operator of the file, and the kernels that run it.

    Attributes:
        op: The operator.
        layer: The Keras layer that it comes from, as far as the names in the file show.
        part: The part of a transformer.
        kernels: What the runtime executes for it; several if it converts something first.
        ms: The mean time in a run in milliseconds. Times of the CPU delegate's kernels are known within half a
            microsecond.
        precision: "float32", "dynamic_int8" or "int8".
        macs: Its multiply-accumulates.
        bytes: The bytes that it reads and writes at least.
        limit_ms: The least time that the device needs by its measured rates; None without them.
    """

    op: str
    layer: str
    part: str
    kernels: list[str]
    ms: float
    precision: str
    macs: int
    bytes: float
    limit_ms: float | None


@dataclass(frozen=True)
class Part:
    """A part of a transformer: the sums over its operators. `limit_ms` is None without the rates of the device."""

    name: str
    operators: int
    ms: float
    macs: int
    bytes: float
    limit_ms: float | None


@dataclass(frozen=True)
class Profile:
    """The time of a file by operator. It prints as a table of parts and one of the longest operators.

    Attributes:
        file: The file.
        device: The device.
        runtime: The name and version of the runtime.
        run_ms: The mean time of a whole run in milliseconds, with the profiler on.
        entries: The operators that take time, in the order of the file.
        peaks: What the device can do at best; None if it was not measured.
    """

    file: str
    device: str
    runtime: str
    run_ms: float
    entries: list[Entry]
    peaks: Peaks | None

    @property
    def parts(self) -> list[Part]:
        """The parts, the longest first. The last is the time between operators, so that they add up to `run_ms`."""
        by_part = defaultdict(list)
        for entry in self.entries:
            by_part[entry.part].append(entry)
        parts = [
            Part(
                name,
                len(entries),
                sum(entry.ms for entry in entries),
                sum(entry.macs for entry in entries),
                sum(entry.bytes for entry in entries),
                None if self.peaks is None else sum(entry.limit_ms or 0.0 for entry in entries),
            )
            for name, entries in ((name, by_part[name]) for name in PARTS)
            if entries
        ]
        parts.sort(key=lambda part: -part.ms)
        return [*parts, Part(_OUTSIDE, 0, self.run_ms - sum(part.ms for part in parts), 0, 0.0, None)]

    @property
    def layers(self) -> dict[str, float]:
        """The time of each layer in milliseconds, the longest first."""
        times: dict[str, float] = defaultdict(float)
        for entry in self.entries:
            times[entry.layer] += entry.ms
        return dict(sorted(times.items(), key=lambda item: -item[1]))

    def to_dict(self) -> dict:
        """Return the attributes, the parts and the layers as values that JSON can hold."""
        return {
            **dataclasses.asdict(self),
            "parts": [dataclasses.asdict(part) for part in self.parts],
            "layers": self.layers,
        }

    def __str__(self) -> str:
        lines = [
            f"{os.path.basename(self.file)} on {self.device}, {self.runtime}, one thread: {self.run_ms:.3f} ms a run"
        ]
        header = ["part", "operators", "ms", "share"]
        rows = [
            [part.name, str(part.operators), f"{part.ms:.3f}", f"{part.ms / self.run_ms:.1%}", *self._roofline(part)]
            for part in self.parts
        ]
        longest = sorted(self.entries, key=lambda entry: -entry.ms)[:_LARGEST]
        operator_rows = [
            [
                entry.op,
                entry.layer,
                entry.precision,
                f"{entry.ms:.3f}",
                f"{entry.ms / self.run_ms:.1%}",
                *self._roofline(entry),
            ]
            for entry in longest
        ]
        roofline = [] if self.peaks is None else ["MMAC", "GMAC/s", "MB", "of limit"]
        lines += [table([*header, *roofline], rows), ""]
        lines.append(table(["operator", "layer", "precision", "ms", "share", *roofline], operator_rows))
        if self.peaks is not None:
            rates = ", ".join(f"{name} {rate:.0f} GMAC/s" for name, rate in self.peaks.gmacs_per_s.items())
            lines.append(f"limits, measured: {rates}, memory {self.peaks.gb_per_s:.1f} GB/s")
        return "\n".join(lines)

    def _roofline(self, item: Entry | Part) -> list[str]:
        if self.peaks is None:
            return []
        rate = f"{item.macs / item.ms / 1e6:.1f}" if item.macs and item.ms else "-"
        share = f"{item.limit_ms / item.ms:.0%}" if item.limit_ms and item.ms else "-"
        return [
            f"{item.macs / 1e6:.1f}" if item.macs else "-",
            rate,
            f"{item.bytes / 1e6:.2f}" if item.bytes else "-",
            share,
        ]


def profile(
    file: str | os.PathLike,
    device: str = "local",
    *,
    runs: int = 50,
    roofline: bool = True,
    printed: str | None = None,
) -> Profile:
    """Measure the time of each operator of a .tflite file, and gather it by layer and by part of a transformer.

    Args:
        file: The .tflite file.
        device: The device to run on: "local", a board as "ssh://user@host", or a phone as "adb:SERIAL".
        runs: The number of profiled runs.
        roofline: Whether to measure what the device can do at best as well, which takes some seconds.
        printed: What a benchmark_model printed with its profiler on, to read in place of running anything.

    Raises:
        ValueError: `runs` is out of range, the device has no profiler, the file is not usable, or `printed`
            has no table.
        OSError: The file cannot be read, or the device cannot be reached.
        ImportError: No runtime is installed. The message gives the pip command.
        RuntimeError: The file crashed the runtime.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1; received {runs}.")
    path = os.fspath(file)
    check_file(path)
    if printed is not None:
        nodes = read_nodes(printed)
        whole = sum(node.ms for node in nodes)
        return _gathered(path, "a table", "as printed", whole, nodes, read_graph(Path(path).read_bytes()), None)
    place = find_device(device)
    measured = place.profile(path, runs)
    peaks = measure_peaks(place, measured["gb_per_s"]) if roofline and measured.get("gb_per_s") else None
    nodes = [
        dataclasses.replace(node, ms=node.ms + _CUT_MS) if node.delegated else node
        for node in itertools.starmap(Node, measured["nodes"])
    ]
    graph = read_graph(Path(path).read_bytes())
    return _gathered(path, device, measured["runtime"], measured["run_ms"], nodes, graph, peaks)


def _gathered(
    file: str, device: str, runtime: str, run_ms: float, nodes: Sequence[Node], graph: Graph, peaks: Peaks | None
) -> Profile:
    kernels = defaultdict(list)
    for node, owner in zip(nodes, align(nodes, graph.operators), strict=True):
        kernels[owner].append(node)
    entries = []
    for index in sorted(kernels):
        operator, own = graph.operators[index], kernels[index]
        converts = [node for node in own if node.kind.startswith("Convert")]
        rest = [node for node in own if not node.kind.startswith("Convert")]
        macs, size, precision = macs_of(operator), bytes_of(operator), precision_of(operator)
        limit = None
        if peaks is not None:
            limit = max(macs / peaks.gmacs_per_s[precision] / 1e6, size / peaks.gb_per_s / 1e6)
        if rest:
            ms = sum(node.ms for node in rest)
            kinds = [node.kind for node in rest]
            entries.append(
                Entry(operator.name, operator.layer, part_of(operator), kinds, ms, precision, macs, size, limit)
            )
        if converts:
            ms = sum(node.ms for node in converts)
            kinds = [node.kind for node in converts]
            entries.append(
                Entry(
                    "QUANTIZE" if rest else operator.name,
                    operator.layer,
                    "quantize and dequantize",
                    kinds,
                    ms,
                    precision,
                    0,
                    0.0,
                    None,
                )
            )
    return Profile(file, device, runtime, run_ms, entries, peaks)
