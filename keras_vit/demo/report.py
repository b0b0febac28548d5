"""What a run found, for people: an aligned table for the terminal and one self-contained HTML page.

The page is of `keras_vit.utils.page`'s kind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from xml.etree.ElementTree import Element

import numpy as np

from keras_vit.utils.page import add, add_facts, add_section, new_page, png_address, write_page

EN_DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class FileResult:
    """One exported file and what was measured on it; None where something was not."""

    model: str  # the files of one model stand together, in one latency plot
    file: str  # its name; a latency plot has room for some 55 characters
    size_bytes: int
    top1: float | None = None  # fraction of the test images that it classifies rightly
    agreement: float | None = None  # fraction of the test images where it names the Keras model's class
    snr_db: float | None = None  # 10 log10 of the Keras model's output energy over the error's, in dB
    samples_ms: Sequence[float] = ()  # latency of each run in ms, in the order measured; empty if never run
    speed: float | None = None  # p50 of the same model's float32 file over this file's p50
    partitions: int | None = None  # pieces that the XNNPACK delegate makes of the graph

    @property
    def p50_ms(self) -> float | None:
        return self._percentile(50)

    @property
    def p90_ms(self) -> float | None:
        return self._percentile(90)

    def _percentile(self, q: int) -> float | None:
        return float(np.percentile(self.samples_ms, q)) if len(self.samples_ms) else None


@dataclass(frozen=True)
class Picture:
    """A test image, what was said about it, and where the class token looked."""

    image: np.ndarray  # (height, width, 1 or 3), float in [0, 1]
    label: str  # the true class
    predictions: Mapping[str, tuple[str, float]]  # who -> (class, probability in [0, 1])
    attention: Mapping[str, np.ndarray]  # which head, or "mean" -> (rows, columns) of patches, not negative


@dataclass(frozen=True)
class Column:
    """A column of the result table, in the terminal and on the page alike."""

    heading: str
    unit: str
    read: Callable[[FileResult], str | float | None]
    form: Callable[[str | float], str]
    meaning: str

    def text(self, row: FileResult) -> str:
        value = self.read(row)
        return EN_DASH if value is None else self.form(value)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _significant(value: float) -> str:
    """Three significant digits, since one column holds 0.05 ms as well as 50 ms."""
    return np.format_float_positional(value, 3, unique=False, fractional=False, trim="k").rstrip(".")


COLUMNS = (
    Column("Model", "", attrgetter("model"), str, "the architecture that was exported"),
    Column("File", "", attrgetter("file"), str, "the exported file"),
    Column("Size", "MB", lambda row: row.size_bytes / 1e6, _significant, "1 MB is 1,000,000 bytes"),
    Column("Top-1", "%", attrgetter("top1"), _percent, "test images that the file classifies rightly"),
    Column("Agree", "%", attrgetter("agreement"), _percent, "images where it names the Keras model's class"),
    Column("SNR", "dB", attrgetter("snr_db"), "{:.1f}".format, "Keras model's output over the file's error"),
    Column("p50", "ms", attrgetter("p50_ms"), _significant, "half of the runs took at most this long"),
    Column("p90", "ms", attrgetter("p90_ms"), _significant, "nine in ten runs took at most this long"),
    Column(
        "Speed",
        TIMES,
        attrgetter("speed"),
        "{:.2f}".format,
        "p50 of the model's float32 file over this one's",
    ),
    Column("Parts", "", attrgetter("partitions"), str, "pieces XNNPACK cuts the graph into; fewer is faster"),
)
TEXT_COLUMNS, NUMBER_COLUMNS = COLUMNS[:2], COLUMNS[2:]


def table(rows: Sequence[FileResult]) -> str:
    """The rows as aligned text: headings, units, a rule, a line a file; an en dash is a missing value."""
    columns = []
    for column in COLUMNS:
        cells = [column.heading, column.unit, *(column.text(row) for row in rows)]
        width = max(map(len, cells))
        pad = str.ljust if column in TEXT_COLUMNS else str.rjust
        columns.append([pad(cell, width) for cell in cells])
    headings, units, *lines = ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
    return "\n".join([headings, units, "-" * max(map(len, (headings, *lines))), *lines])


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    summary: str,
    highlights: Sequence[tuple[str, str]],
    files: Sequence[FileResult],
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    pictures: Sequence[Picture],
    environment: Mapping[str, object],
) -> None:
    """Writes the page. A page that was there is replaced when the new one is whole, and stays if that fails.

    Args:
        path: the HTML file; its folder is made if it is missing.
        title: the heading.
        summary: what was done, in a sentence or two.
        highlights: what to remember, as (figure with its unit, what it says), like ("3 dB", "...").
        files: the rows of the result table and of the latency plots, one plot a model.
        curves: phase of training -> its epochs, each with the finite `loss`, `val_loss`, `accuracy` and
            `val_accuracy` of Keras' history. A phase goes on where the one before it ended.
        pictures: test images with predictions and attention.
        environment: fact -> value, of the machine and the software that all of this was measured with.

    A section with nothing to show is left out.

    Raises:
        ValueError: a picture or its attention has another shape or range than Picture says.
    """
    page, main = new_page(title, summary, highlights, _STYLE)
    for heading, content, build in (
        ("Results", files, _results),
        ("Latency", [row for row in files if len(row.samples_ms)], _latency),
        ("Learning", {name: epochs for name, epochs in curves.items() if epochs}, _learning),
        ("Test images", pictures, _pictures),
        ("Measured on", environment, add_facts),
    ):
        if content:
            build(add_section(main, heading), content)
    write_page(path, page)


def _results(section: Element, rows: Sequence[FileResult]) -> None:
    element = add(section, "table")
    heading = add(add(element, "thead"), "tr")
    for column in COLUMNS:
        cell = add(heading, "th", column.heading, scope="col", title=column.meaning)
        add(cell, "small", column.unit)
    for _, group in groupby(rows, attrgetter("model")):
        body = add(element, "tbody")
        for row in group:
            line = add(body, "tr")
            for column in COLUMNS:
                # On a phone a row is a list of facts, and each carries its heading along.
                add(line, "td", column.text(row), data_heading=f"{column.heading} {column.unit}".strip())
    notes = add(section, "dl", class_="notes")
    for column in NUMBER_COLUMNS:
        add(notes, "dt", column.heading)
        add(notes, "dd", column.meaning)


WIDTH, LEFT, RIGHT = 460, 44, 390  # of every chart, in SVG units; a latency plot has labels right of its axis


def _chart(parent: Element, caption: str, description: str, height: float) -> Element:
    figure = add(parent, "figure")
    add(figure, "figcaption", caption)
    svg = add(figure, "svg", viewBox=f"0 0 {WIDTH} {height:g}", role="img")
    add(svg, "title", caption)
    add(svg, "desc", description)
    return svg


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers around low...high, in steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (5, 2, 1) if m * power <= span / 4 or m == 1)
    return [step * i for i in range(math.floor(low / step), math.ceil((low + span) / step) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _x_axis(svg: Element, x: Callable, ticks: Sequence[float], top: float, bottom: float, label: str) -> None:
    for tick in ticks:
        add(svg, "line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom)
        add(svg, "text", f"{tick:g}", x=x(tick), y=bottom + 15, text_anchor="middle")
    add(svg, "text", label, x=(x(ticks[0]) + x(ticks[-1])) / 2, y=bottom + 31, text_anchor="middle")


def _latency(section: Element, rows: Sequence[FileResult]) -> None:
    text = "Every dot is one run. A solid line marks p50, a dashed one p90; "
    add(section, "p", text + "a number with ▸ counts runs too slow for the axis.")
    charts = add(section, "div", class_="charts")
    for model, group in groupby(rows, attrgetter("model")):
        _latency_chart(charts, model, list(group))


def _latency_chart(parent: Element, model: str, rows: Sequence[FileResult]) -> None:
    # One run that the machine disturbed must not squeeze all others into a corner.
    ticks = _ticks(0, max(min(max(row.samples_ms), 1.5 * row.p90_ms) for row in rows))
    end, x, pitch = ticks[-1], _scale(0, ticks[-1], LEFT, RIGHT), 66
    facts = (f"{row.file}: p50 {_significant(row.p50_ms)}, p90 {_significant(row.p90_ms)} ms" for row in rows)
    svg = _chart(parent, model, "; ".join(facts), len(rows) * pitch + 44)
    _x_axis(svg, x, ticks, 4, len(rows) * pitch + 4, "ms for one image")
    for row, top in zip(rows, range(0, len(rows) * pitch, pitch), strict=True):
        add(svg, "text", row.file, class_="name", x=LEFT + 4, y=top + 17)
        for i, sample in enumerate(row.samples_ms):
            if sample <= end:  # multiples of the golden ratio spread evenly, and the same way in every run
                y = top + 52 + 18 * (i * 0.618034 % 1 - 0.5)
                add(svg, "circle", class_="dot", cx=x(sample), cy=y, r=2.5)
        beyond = sum(sample > end for sample in row.samples_ms)
        if beyond:
            add(svg, "text", f"{beyond} ▸", x=RIGHT + 6, y=top + 56)
        # One label reaches left, the other right: they can't meet.
        for name, value, anchor, shift in (("p50", row.p50_ms, "end", -4), ("p90", row.p90_ms, "start", 4)):
            add(svg, "line", class_=f"mark {name}", x1=x(value), x2=x(value), y1=top + 24, y2=top + 64)
            text = f"{name} {_significant(value)}"
            add(svg, "text", text, class_="value", x=x(value) + shift, y=top + 34, text_anchor=anchor)


def _learning(section: Element, phases: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    charts = add(section, "div", class_="charts")
    _curve_chart(charts, "Loss", phases, "loss", "{:.4g}".format)
    _curve_chart(charts, "Accuracy, %", phases, "accuracy", lambda fraction: f"{100 * fraction:.4g}")


def _curve_chart(parent: Element, caption: str, phases: Mapping, key: str, form: Callable) -> None:
    epochs = [epoch for phase in phases.values() for epoch in phase]
    kinds = {"training": key, "validation": f"val_{key}"}
    values = [epoch[name] for epoch in epochs for name in kinds.values()]
    ticks, top, bottom, right = _ticks(min(values), max(values)), 44, 220, WIDTH - 12
    x, y = _scale(0, len(epochs), LEFT, right), _scale(ticks[0], ticks[-1], bottom, top)
    last = ", ".join(f"{kind} {form(epochs[-1][name])}" for kind, name in kinds.items())
    svg = _chart(parent, caption, f"{' then '.join(phases)}; after epoch {len(epochs)}: {last}", bottom + 40)
    whole = [tick for tick in _ticks(0, len(epochs)) if tick == round(tick) and tick <= len(epochs)]
    _x_axis(svg, x, whole, top, bottom, "epoch")
    for tick in ticks:
        add(svg, "line", class_="grid", x1=LEFT, x2=right, y1=y(tick), y2=y(tick))
        add(svg, "text", form(tick), x=LEFT - 6, y=y(tick) + 4, text_anchor="end")
    for kind, left in zip(kinds, (LEFT, LEFT + 110), strict=True):
        _curve(svg, kind, [(left, 10), (left + 26, 10)])
        add(svg, "text", kind, x=left + 34, y=14)
    before = 0
    for name, phase in phases.items():
        for kind, metric in kinds.items():
            _curve(svg, kind, [(x(i), y(epoch[metric])) for i, epoch in enumerate(phase, before + 1)])
        if before:
            add(svg, "line", class_="mark start", x1=x(before), x2=x(before), y1=top, y2=bottom)
            add(svg, "line", class_="mark start", x1=LEFT, x2=LEFT + 26, y1=30, y2=30)
            add(svg, "text", f"{name}, from epoch {before + 1}", x=LEFT + 34, y=34)
        before += len(phase)


def _curve(svg: Element, kind: str, points: Sequence[tuple[float, float]]) -> None:
    add(svg, "polyline", class_=f"curve {kind}", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    for x, y in points:
        if kind == "training":
            add(svg, "rect", class_=kind, x=x - 2, y=y - 2, width=4, height=4)
        else:
            add(svg, "circle", class_=kind, cx=x, cy=y, r=2.2)


def _pictures(section: Element, pictures: Sequence[Picture]) -> None:
    text = "Beside each image: where the class token looks. More colour is more attention; "
    add(section, "p", text + "each map is scaled to its own largest value.")
    cards = add(section, "div", class_="pictures")
    for picture in pictures:
        figure = add(cards, "figure")
        images = add(figure, "div")
        pixels = _pixels(picture.image)
        overlays = {name: _overlay(pixels, attention) for name, attention in picture.attention.items()}
        for name, array in {"image": pixels, **overlays}.items():
            frame = add(images, "span")
            add(frame, "img", src=_png(array), alt=f"{name} of {picture.label}")
            add(frame, "small", name)
        caption = add(figure, "figcaption", f"true class: {picture.label}")
        for who, (label, probability) in picture.predictions.items():
            mark = "✓" if label == picture.label else "✗"
            add(caption, "span", f"{mark} {who}: {label} ({100 * probability:.1f} %)")


def _enlarge(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """(rows, columns, ...) to (height, width, ...) by repeating: no value is made up between two."""
    rows, columns = array.shape[:2]
    return array[np.arange(height) * rows // height][:, np.arange(width) * columns // width]


def _pixels(image: np.ndarray) -> np.ndarray:
    """(height, width, 1 or 3) to (H, W, 3), enlarged by a whole factor to 160 or more."""
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not 0 <= image.min() <= image.max() <= 1:
        found = f"{image.shape} with values from {image.min():g} to {image.max():g}"
        raise ValueError(f"A picture is (height, width, 1 or 3) with values in [0, 1]; received {found}.")
    height, width, channels = image.shape
    factor = math.ceil(160 / max(height, width))
    return np.repeat(_enlarge(image, height * factor, width * factor), 3 // channels, axis=2)


def _overlay(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image in dim gray where attention is low, in bright orange where it is high."""
    if attention.ndim != 2 or not 0 <= attention.min() <= attention.max() < math.inf:
        found = f"{attention.shape} with values from {attention.min():g} to {attention.max():g}"
        raise ValueError(f"Attention is (rows, columns) of numbers from 0 up; received {found}.")
    heat = _enlarge(attention / max(attention.max(), 1e-12), *pixels.shape[:2])[..., np.newaxis]
    gray = pixels.mean(axis=-1, keepdims=True)
    return (1 - heat) * 0.5 * gray + heat * (0.35 + 0.65 * gray) * (1.0, 0.6, 0.1)


def _png(pixels: np.ndarray) -> str:
    """(height, width, 3) in [0, 1] as a data: address."""
    import tensorflow as tf

    png = tf.io.encode_png(np.round(255 * pixels).astype("uint8")).numpy()
    return png_address(png)


_STYLE = """
.notes, figcaption span { color: var(--soft); font-size: 0.875em; }
.charts, .pictures, .pictures div { display: grid; gap: 16px; }
.pictures figure { padding: 12px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.94em; }
th, td { padding: 6px 8px; text-align: right; vertical-align: top; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th, td:nth-child(n+3) { white-space: nowrap; }
th small { display: block; font-weight: normal; }
thead, tbody { border-bottom: 1px solid var(--line); }
.notes { grid-template-columns: max-content 1fr max-content 1fr; margin-top: 12px; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); margin-top: 12px; }
.charts figcaption { font-weight: 600; }
svg { display: block; width: 100%; }
svg text { fill: var(--soft); font-size: 13px; }
svg .name, svg .value { fill: var(--ink); }
.grid { stroke: var(--line); }
.dot { fill: var(--first); fill-opacity: 0.3; }
.mark { stroke: var(--ink); stroke-width: 1.5; }
.training { stroke: var(--second); fill: var(--ground); }
.validation { stroke: var(--first); fill: var(--first); }
svg .curve { fill: none; stroke-width: 1.5; }
.curve.training, .p90, .start { stroke-dasharray: 4 3; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); margin-top: 12px; }
.pictures div { grid-template-columns: repeat(auto-fit, minmax(80px, 1fr)); gap: 8px; margin-bottom: 4px; }
.pictures img { display: block; width: 100%; max-width: 160px; image-rendering: pixelated; }
figcaption span { display: block; }
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
