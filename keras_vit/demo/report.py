"""The results of the demo, as a table for the terminal and as an HTML page."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import numpy as np

from keras_vit.inspection.figures import BLUE, ORANGE, new_figure, overlay_figure
from keras_vit.utils.page import add, add_facts, add_figure, add_section, new_page, write_page
from keras_vit.utils.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FileResult:
    """Measurements of one exported file; None where something was not measured.

    Attributes:
        model: Title of the exported model. The files of a model share a latency figure.
        file: Name of the file.
        size_bytes: Size of the file.
        top1: Fraction of the test images that the file classifies correctly.
        agreement: Fraction of the test images for which the file and the Keras model predict the same class.
        snr_db: Signal-to-noise ratio of the outputs of the file against those of the Keras model, in decibels.
        samples_ms: Latency of each run in milliseconds, in the order measured.
        speed: p50 of the float32 file of the same model divided by the p50 of this file.
        partitions: Number of pieces into which the XNNPACK delegate divides the graph.
    """

    model: str
    file: str
    size_bytes: int
    top1: float | None = None
    agreement: float | None = None
    snr_db: float | None = None
    samples_ms: Sequence[float] = ()
    speed: float | None = None
    partitions: int | None = None

    @property
    def p50_ms(self) -> float | None:
        """Median latency in milliseconds."""
        return self._percentile(50)

    @property
    def p90_ms(self) -> float | None:
        """90th percentile of the latency in milliseconds."""
        return self._percentile(90)

    def _percentile(self, q: int) -> float | None:
        return float(np.percentile(self.samples_ms, q)) if len(self.samples_ms) else None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return the measurements for JSON, with percentiles in place of the samples."""
        fields = (
            "model",
            "file",
            "size_bytes",
            "top1",
            "agreement",
            "snr_db",
            "p50_ms",
            "p90_ms",
            "speed",
            "partitions",
        )
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True)
class ExampleImage:
    """A test image with its predictions and the attention of the class token.

    Attributes:
        image: Array of shape `(height, width, 1 or 3)` with values in [0, 1].
        label: The true class.
        predictions: The predicted class and its probability, by name of the model.
        attention: Attention to the patches, of shape `(rows, columns)`.
    """

    image: np.ndarray
    label: str
    predictions: Mapping[str, tuple[str, float]]
    attention: np.ndarray


@dataclass(frozen=True)
class _Column:
    heading: str
    value: Callable[[FileResult], str | float | None]
    form: Callable[[str | float], str]
    meaning: str

    def text(self, row: FileResult) -> str:
        value = self.value(row)
        return "-" if value is None else self.form(value)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _significant(value: float) -> str:
    """Format a positive number with three significant digits, because a column may hold 0.05 ms and 50 ms."""
    value = float(f"{value:.3g}")
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


_COLUMNS = (
    _Column("Model", attrgetter("model"), str, "the exported model"),
    _Column("File", attrgetter("file"), str, "the exported file"),
    _Column("Size MB", lambda row: row.size_bytes / 1e6, _significant, "size of the file; 1 MB is 1,000,000 bytes"),
    _Column("Top-1 %", attrgetter("top1"), _percent, "test images that the file classifies correctly"),
    _Column(
        "Agree %", attrgetter("agreement"), _percent, "images for which file and Keras model predict the same class"
    ),
    _Column("SNR dB", attrgetter("snr_db"), "{:.1f}".format, "signal-to-noise ratio against the Keras model"),
    _Column("p50 ms", attrgetter("p50_ms"), _significant, "median latency of one image"),
    _Column("p90 ms", attrgetter("p90_ms"), _significant, "90th percentile of the latency"),
    _Column("Speedup", attrgetter("speed"), "{:.2f}".format, "p50 of the float32 file divided by p50 of this file"),
    _Column("Parts", attrgetter("partitions"), str, "pieces into which XNNPACK divides the graph; one is best"),
)
_TEXT_COLUMNS = 2


def results_table(results: Sequence[FileResult]) -> str:
    """Return the results as aligned text."""
    rows = [[column.text(row) for column in _COLUMNS] for row in results]
    return table([column.heading for column in _COLUMNS], rows)


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    summary: str,
    highlights: Sequence[tuple[str, str]],
    files: Sequence[FileResult],
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    images: Sequence[ExampleImage],
    environment: Mapping[str, object],
) -> None:
    """Write the report as an HTML page.

    An existing file is replaced when the new page is complete, and kept if writing fails. Sections without content are
    left out.

    Args:
        path: The HTML file. Its folder is created if it is missing.
        title: The heading of the page.
        summary: What was done, in a sentence or two.
        highlights: The most important numbers, as pairs of a number with its unit and its meaning, such as
            `("3 dB", "signal-to-noise ratio")`.
        files: The rows of the table and of the latency figures.
        curves: For each phase of the training, its epochs, each with `loss`, `val_loss`, `accuracy` and `val_accuracy`.
            A phase continues where the one before it ended.
        images: Test images with predictions and attention.
        environment: Names and values of facts about the machine and the software.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If an image or its attention has another shape or range than `ExampleImage` describes.
    """
    page, main = new_page(title, summary, highlights, _STYLE)
    for heading, content, add_content in (
        ("Results", files, _add_results),
        ("Latency", [row for row in files if len(row.samples_ms)], _add_latency),
        ("Training", {name: epochs for name, epochs in curves.items() if epochs}, _add_training),
        ("Test images", images, _add_images),
        ("Environment", environment, add_facts),
    ):
        if content:
            add_content(add_section(main, heading), content)
    write_page(path, page)


def _add_results(section: Element, rows: Sequence[FileResult]) -> None:
    element = add(section, "table")
    heading = add(add(element, "thead"), "tr")
    for column in _COLUMNS:
        add(heading, "th", column.heading, scope="col", title=column.meaning)
    for _, group in groupby(rows, attrgetter("model")):
        body = add(element, "tbody")
        for row in group:
            line = add(body, "tr")
            for column in _COLUMNS:
                # On a phone a row is shown as a list, in which each cell repeats its heading.
                add(line, "td", column.text(row), data_heading=column.heading)
    notes = add(section, "dl", class_="notes")
    for column in _COLUMNS[_TEXT_COLUMNS:]:
        add(notes, "dt", column.heading)
        add(notes, "dd", column.meaning)


def _add_latency(section: Element, rows: Sequence[FileResult]) -> None:
    add(section, "p", "Each dot is one run. The solid line is p50, the dashed line p90.")
    grid = add(section, "div", class_="grid")
    for model, group in groupby(rows, attrgetter("model")):
        group = list(group)
        facts = (f"{row.file}: p50 {_significant(row.p50_ms)} ms, p90 {_significant(row.p90_ms)} ms" for row in group)
        add_figure(grid, latency_figure(model, group), f"Latency of {model}. {'; '.join(facts)}")


def latency_figure(title: str, rows: Sequence[FileResult]) -> Figure:
    """Draw the latency of each run of several files, one row for each file."""
    figure = new_figure(4.6, 0.9 + 0.75 * len(rows))
    axes = figure.add_subplot()
    # A single disturbed run must not compress all others, so the axis may end before the slowest ones.
    end = 1.08 * max(min(max(row.samples_ms), 1.5 * row.p90_ms) for row in rows)
    for place, row in enumerate(rows):
        samples = np.asarray(row.samples_ms)
        # Multiples of the golden ratio spread the dots evenly, and equally every time.
        jitter = 0.3 * (np.arange(len(samples)) * 0.618034 % 1 - 0.5)
        shown = samples <= end
        axes.scatter(samples[shown], place + jitter[shown], s=10, color=BLUE, alpha=0.35, linewidths=0)
        for name, value, style in (("p50", row.p50_ms, "-"), ("p90", row.p90_ms, "--")):
            axes.plot([value, value], [place - 0.22, place + 0.22], style, color="black", linewidth=1.3, label=name)
        text = f"{row.file}:  p50 {_significant(row.p50_ms)} ms, p90 {_significant(row.p90_ms)} ms"
        if slower := int(np.sum(~shown)):
            text += f", {slower} slower not shown"
        axes.text(0.01 * end, place - 0.3, text, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("ms per image")
    axes.set_xlim(0, end)
    axes.set_ylim(len(rows) - 0.6, -0.7)
    axes.set_yticks([])
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["left", "top", "right"]].set_visible(False)
    return figure


def _add_training(section: Element, phases: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    last = [epoch for phase in phases.values() for epoch in phase][-1]
    grid = add(section, "div", class_="grid")
    for title, metric in (("Loss", "loss"), ("Accuracy", "accuracy")):
        end = f"{last[metric]:.4g} in training and {last[f'val_{metric}']:.4g} in validation"
        add_figure(grid, training_figure(title, metric, phases), f"{title} by epoch; at the end {end}")


def training_figure(title: str, metric: str, phases: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw a metric over the epochs of one or several phases of training.

    Args:
        title: Title of the figure.
        metric: Name of the metric in the logs of Keras; "val_" and this name is that of the validation images.
        phases: The logs of the epochs of each phase.
    """
    figure = new_figure(4.6, 3.0)
    axes = figure.add_subplot()
    epochs = [epoch for phase in phases.values() for epoch in phase]
    numbers = range(1, len(epochs) + 1)
    for name, label, color in ((metric, "training", ORANGE), (f"val_{metric}", "validation", BLUE)):
        axes.plot(
            numbers, [epoch[name] for epoch in epochs], ".-", color=color, linewidth=1.2, markersize=4, label=label
        )
    first = 1
    for name, phase in phases.items():
        if first > 1:
            axes.axvline(first - 0.5, color="gray", linestyle=":", label=name)
        first += len(phase)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _add_images(section: Element, images: Sequence[ExampleImage]) -> None:
    add(
        section,
        "p",
        "Beside each image: the attention of the class token in the last block, averaged over heads. Brighter is more; "
        "each map is scaled to its own maximum.",
    )
    cards = add(section, "div", class_="grid images")
    for image in images:
        card = add(cards, "div", class_="card")
        add_figure(
            card,
            overlay_figure(image.image, image.attention, "attention", side=1.5),
            f"A {image.label} and its attention",
        )
        add(card, "p", f"true class: {image.label}")
        for name, (label, probability) in image.predictions.items():
            mark = "✓" if label == image.label else "✗"
            add(card, "small", f"{mark} {name}: {label} ({100 * probability:.1f} %)")


_STYLE = """
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.94em; }
th, td { padding: 6px 8px; text-align: right; vertical-align: top; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
thead, tbody { border-bottom: 1px solid var(--line); }
.notes { grid-template-columns: max-content 1fr max-content 1fr; margin-top: 12px; color: var(--soft);
  font-size: 0.875em; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.images { grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); margin-top: 12px; }
.card small { display: block; }
@media screen and (max-width: 760px) {
  thead { display: none; }
  tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 24px; padding: 8px 0; }
  td { display: flex; justify-content: space-between; gap: 16px; padding: 1px 0; }
  td:nth-child(-n+2) { grid-column: 1 / -1; }
  .notes { grid-template-columns: max-content 1fr; }
  td::before { content: attr(data-heading); color: var(--soft); }
  td:nth-child(n) { text-align: right; }
  tr + tr { border-top: 1px dashed var(--line); } }
@media print { th, td { padding: 4px; } }
"""
