"""A self-contained page about benchmarks: latency against accuracy, distributions, sustained load, and profiles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks
from keras_vit.edge.devices.profiling import Profile
from keras_vit.utils.missing import needs
from keras_vit.utils.page import add, add_facts, add_figure, add_section, new_page, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_IN, _ROW_IN = 9.0, 0.45
_STYLE = """
pre { overflow-x: auto; padding: 12px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  font: 13px/1.45 ui-monospace, monospace; overflow-wrap: normal; }
"""


def write_benchmark_page(
    path: str | os.PathLike,
    benchmarks: Benchmarks,
    accuracies: Mapping[str, float] | None = None,
    profiles: Sequence[Profile] = (),
    accuracy_name: str = "signal to noise, dB",
) -> None:
    """Write a page about benchmarks. An existing file is replaced when the new one is complete.

    Args:
        path: The .html file.
        benchmarks: The benchmarks, measured together.
        accuracies: How right each file is, by its path as in the benchmarks: top-1 accuracy or signal to noise.
        profiles: Profiles of some of the files.
        accuracy_name: What `accuracies` are, with the unit.

    Raises:
        ValueError: There are no benchmarks.
        ImportError: matplotlib is not installed.
    """
    if not benchmarks:
        raise ValueError("There are no benchmarks to write a page about.")
    with needs("matplotlib", "a page of benchmarks", "inspect"):
        import matplotlib.figure  # noqa: F401
    first, fastest = benchmarks[0], min(benchmarks, key=lambda each: each.p50_ms)
    page, main = new_page(
        "Latency",
        f"{len(benchmarks)} file{'s' if len(benchmarks) > 1 else ''} on {first.device}, measured in turn with "
        f"{first.threads} thread{'s' if first.threads > 1 else ''} of {first.runtime}.",
        [
            (f"{fastest.p50_ms:.2f} ms", f"median of the fastest, {_name(fastest)}"),
            (f"{min(len(each.samples_ms) for each in benchmarks):,}", "runs of each file"),
        ],
        _STYLE,
    )
    section = add_section(main, "Times")
    add(section, "p", "± is half of the 95 % confidence interval of the median.")
    add(section, "pre", str(benchmarks))
    if accuracies:
        section = add_section(main, "Accuracy against latency")
        add_figure(section, _scatter(benchmarks, accuracies, accuracy_name), f"{accuracy_name} over the median latency")
    section = add_section(main, "Distributions")
    add(
        section, "p", "The middle half of the times is in the box; the lines reach from the 1st to the 99th percentile."
    )
    add_figure(section, _distributions(benchmarks), "the distribution of the times of each file")
    for benchmark in benchmarks:
        if benchmark.sustained:
            section = add_section(main, f"Sustained load: {_name(benchmark)}")
            start = benchmark.throttling_start_s
            add(
                section,
                "p",
                "It does not become slower." if start is None else f"It is slower for good from {start:.0f} s on.",
            )
            add_figure(section, _sustained(benchmark), "latency, temperature and clock over time")
    for profile in profiles:
        section = add_section(main, f"Where the time goes: {os.path.basename(profile.file)}")
        add_figure(section, _parts(profile), "the time of each part of the transformer")
        add(section, "pre", str(profile))
    section = add_section(main, "Device")
    known = {
        name.replace("_", " "): value for name, value in first.facts.items() if isinstance(value, (str, int, float))
    }
    add_facts(section, {**known, "measured": first.time or "unknown"})
    write_page(path, page)


def _name(benchmark: Benchmark) -> str:
    return os.path.basename(benchmark.file)


def _figure(rows: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_IN, 1.2 + _ROW_IN * rows), layout="constrained")


def _scatter(benchmarks: Benchmarks, accuracies: Mapping[str, float], name: str) -> Figure:
    figure = _figure(7)
    axes = figure.subplots()
    for benchmark in benchmarks:
        if benchmark.file in accuracies:
            low, high = benchmark.interval()
            at = (benchmark.p50_ms, accuracies[benchmark.file])
            errors = [[max(0.0, at[0] - low)], [max(0.0, high - at[0])]]
            axes.errorbar(*at, xerr=errors, fmt="o")
            axes.annotate(_name(benchmark), at, textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.set(xlabel="median latency, ms", ylabel=name)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    return figure


def _distributions(benchmarks: Benchmarks) -> Figure:
    figure = _figure(len(benchmarks))
    axes = figure.subplots()
    rows = list(reversed(benchmarks))
    axes.boxplot([benchmark.samples_ms for benchmark in rows], vert=False, whis=(1, 99), showfliers=False, widths=0.6)
    axes.set_yticks(range(1, len(rows) + 1), [_name(benchmark) for benchmark in rows])
    axes.set(xlabel="ms")
    axes.grid(alpha=0.3, axis="x")
    return figure


def _sustained(benchmark: Benchmark) -> Figure:
    series: list[tuple[str, list[float | None]]] = [
        ("latency, ms", [moment.p50_ms for moment in benchmark.sustained]),
        ("temperature, °C", [moment.temperature_c for moment in benchmark.sustained]),
        ("clock, MHz", [moment.clock_mhz for moment in benchmark.sustained]),
    ]
    known = [(name, values) for name, values in series if any(value is not None for value in values)]
    figure = _figure(4 * len(known))
    times = [moment.at_s for moment in benchmark.sustained]
    for axes, (name, values) in zip(np.atleast_1d(figure.subplots(len(known), sharex=True)), known, strict=True):
        axes.plot(times, [np.nan if value is None else value for value in values])
        axes.set(ylabel=name)
        axes.grid(alpha=0.3)
    axes.set(xlabel="seconds")
    return figure


def _parts(profile: Profile) -> Figure:
    parts = list(reversed(profile.parts))
    figure = _figure(len(parts))
    axes = figure.subplots()
    axes.barh([part.name for part in parts], [part.ms for part in parts], color="#9db4d0", label="measured")
    if profile.peaks is not None:
        axes.barh([part.name for part in parts], [part.limit_ms or 0.0 for part in parts], height=0.4, label="limit")
        axes.legend()
    axes.set(xlabel="ms")
    axes.grid(alpha=0.3, axis="x")
    return figure
