"""The report of the demo: its table, its page and its figures."""

import base64
import io
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_vit.demo.report import (
    ExampleImage,
    FileResult,
    latency_figure,
    results_table,
    training_figure,
    write_report,
)

VOID = {"img", "link", "meta"}
HOSTILE = "</title></svg><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;"

FILES = [
    FileResult("small", "small.float32.tflite", 1_735_212, 0.99167, 1.0, 118.34, range(1, 12), 1.0, 1),
    FileResult("small", "small.hybrid_int8.tflite", 498_004, 0.98889, 0.9972, 33.4, [2.0, 2.0], 3.0, 2),
    FileResult("large", "large.float32.tflite", 22_905_000, agreement=1.0, snr_db=math.inf),
]
CELLS = [  # Computed by hand from FILES.
    ["small", "small.float32.tflite", "1.74", "99.17", "100.00", "118.3", "6.00", "10.0", "1.00", "1"],
    ["small", "small.hybrid_int8.tflite", "0.498", "98.89", "99.72", "33.4", "2.00", "2.00", "3.00", "2"],
    ["large", "large.float32.tflite", "22.9", "-", "100.00", "inf", "-", "-", "-", "-"],
]


def epochs(*losses):
    return [
        {"loss": loss, "val_loss": loss + 0.1, "accuracy": 1 - loss / 4, "val_accuracy": 0.9 - loss / 4}
        for loss in losses
    ]


def example(**changes):
    image = np.zeros((8, 8, 1), "float32")
    image[2:6, 3] = 1.0
    fields = {
        "image": image,
        "label": "one",
        "predictions": {"Keras model": ("one", 0.981), "int8 file": ("seven", 0.5)},
        "attention": np.arange(16.0).reshape(4, 4),
    }
    return ExampleImage(**fields | changes)


def facts(**changes):
    return {
        "title": "A run",
        "summary": "What was done.",
        "highlights": [("2.7 times", "as fast")],
        "files": FILES,
        "curves": {"float training": epochs(2.0, 1.0, 0.5), "quantization-aware training": epochs(0.7, 0.4)},
        "images": [example()],
        "environment": {"CPU": "A processor", "threads": 1},
    } | changes


class Page(HTMLParser):
    """The elements of a page as (tag, attributes, texts inside). Fails on tags that are not balanced."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open = [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> within {[name for name, *_ in self.open]}"
        self.open.pop()

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def find(self, tag, class_=None):
        return [
            (attributes, "".join(texts))
            for name, attributes, texts in self.elements
            if name == tag and (class_ is None or attributes.get("class") == class_)
        ]

    def texts(self, tag, class_=None):
        return [text for _, text in self.find(tag, class_)]

    def requests(self):
        """Return what a browser would fetch or run for this page."""
        addresses = [
            value
            for _, attributes, _ in self.elements
            for name, value in attributes.items()
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and value[:5] != "data:"
        ]
        handlers = [name for _, attributes, _ in self.elements for name in attributes if name[:2] == "on"]
        styles = re.findall(r"@import|url\(", "".join(self.texts("style")))
        return addresses + handlers + styles + self.texts("script")


def build_page(folder, **changes):
    write_report(folder / "report.html", **facts(**changes))
    return Page(folder / "report.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return build_page(tmp_path_factory.mktemp("report"))


def picture(image):
    """Return the pixels of an <img> element."""
    attributes, _ = image
    data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_page_is_balanced_and_requests_nothing(page):
    assert page.requests() == []
    assert "http" not in page.source.replace("http-equiv", "")
    policy = next(a["content"] for a, _ in page.find("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="http://x/y.png">',
        '<link href="style.css">',
        "<style>@import 'x.css';</style>",
        "<script>1</script>",
        '<p onclick="f()"></p>',
    ],
)
def test_the_check_for_requests_sees_one(tmp_path, bad):
    (tmp_path / "bad.html").write_text(bad)
    assert Page(tmp_path / "bad.html").requests()


@pytest.mark.parametrize("bad", ["<p><b></p></b>", "<p>", "</p>"])
def test_the_check_for_balance_sees_what_is_open(tmp_path, bad):
    (tmp_path / "bad.html").write_text(bad)
    with pytest.raises(AssertionError):
        Page(tmp_path / "bad.html")


def test_every_value_of_every_row_is_on_the_page(page):
    cells = page.texts("td")
    assert [cells[i : i + 10] for i in range(0, len(cells), 10)] == CELLS


def test_the_table_in_the_terminal_has_the_same_cells():
    heading, rule, *lines = results_table(FILES).split("\n")
    assert set(rule) == {"-", " "}
    assert [line.split() for line in lines] == CELLS
    assert heading.split()[:4] == ["Model", "File", "Size", "MB"]
    assert results_table([]).split()[:2] == ["Model", "File"]


def test_hostile_text_stays_text(tmp_path):
    result = build_page(
        tmp_path,
        title=HOSTILE,
        summary=HOSTILE,
        highlights=[(HOSTILE, HOSTILE)],
        files=[FileResult(HOSTILE, HOSTILE, 1, samples_ms=[1.0])],
        curves={"first": epochs(1.0), HOSTILE: epochs(1.0)},
        images=[example(label=HOSTILE, predictions={HOSTILE: (HOSTILE, 1.0)})],
        environment={HOSTILE: HOSTILE},
    )
    assert result.requests() == []
    assert result.texts("td")[:2] == [HOSTILE, HOSTILE]
    for tag in ("h1", "strong", "dt", "dd"):
        assert HOSTILE in result.texts(tag)
    assert any(HOSTILE in attributes["alt"] for attributes, _ in result.find("img"))


def test_empty_sections_are_left_out(page, tmp_path):
    assert page.texts("h2") == ["Results", "Latency", "Training", "Test images", "Environment"]
    unmeasured = [FileResult("large", "large.tflite", 10)]
    nothing = {"highlights": [], "curves": {"float": []}, "images": [], "environment": {}}
    assert build_page(tmp_path, files=unmeasured, **nothing).texts("h2") == ["Results"]


def test_the_same_results_give_the_same_bytes(page, tmp_path):
    assert build_page(tmp_path).source == page.source


def test_figures_are_described(page):
    latency, loss, accuracy, example = (attributes["alt"] for attributes, _ in page.find("img"))
    assert latency.startswith("Latency of small. small.float32.tflite: p50 6.00 ms, p90 10.0 ms; ")
    assert loss == "Loss by epoch; at the end 0.4 in training and 0.5 in validation"
    assert accuracy == "Accuracy by epoch; at the end 0.9 in training and 0.8 in validation"
    assert example == "A one and its attention"


def test_every_figure_has_something_in_it(page):
    for image in page.find("img"):
        assert picture(image).shape[1] > 400 and picture(image).std() > 5


def dots(axes):
    return [np.asarray(collection.get_offsets()) for collection in axes.collections]


def test_latency_of_every_run():
    (axes,) = latency_figure("small", FILES[:2]).axes
    for place, (drawn, row) in enumerate(zip(dots(axes), FILES[:2], strict=True)):
        np.testing.assert_allclose(drawn[:, 0], row.samples_ms)
        assert np.abs(drawn[:, 1] - place).max() < 0.2
    marks = {tuple(line.get_xdata()) for line in axes.lines}
    assert marks == {(6.0, 6.0), (10.0, 10.0), (2.0, 2.0)}
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "small.float32.tflite:  p50 6.00 ms, p90 10.0 ms"


@pytest.mark.parametrize("scale", [0.003, 1.0, 470.0])
def test_the_latency_axis_starts_at_zero_and_holds_every_run(scale):
    samples = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]) * scale
    (axes,) = latency_figure("m", [FileResult("m", "m.tflite", 10, samples_ms=samples)]).axes
    low, high = axes.get_xlim()
    assert low == 0 and samples[-1] < high < 2 * samples[-1]


def test_a_disturbed_run_is_counted_and_does_not_stretch_the_axis():
    samples = [10.0] * 40 + [2000.0]
    (axes,) = latency_figure("m", [FileResult("m", "m.tflite", 10, samples_ms=samples)]).axes
    assert len(dots(axes)[0]) == 40 and axes.get_xlim()[1] < 20
    assert axes.texts[0].get_text().endswith(", 1 slower not shown")


def test_a_phase_of_training_continues_where_the_one_before_ended():
    (axes,) = training_figure("Loss", "loss", facts()["curves"]).axes
    training, validation, start = axes.lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(training.get_ydata(), [2.0, 1.0, 0.5, 0.7, 0.4])
    np.testing.assert_allclose(validation.get_ydata(), [2.1, 1.1, 0.6, 0.8, 0.5])
    assert start.get_xdata()[0] == 3.5 and start.get_label() == "quantization-aware training"


@pytest.mark.parametrize("losses", [(0.5,), (0.5, 0.5), (1e-7, 3e4)])
def test_curves_of_any_range_stay_in_the_figure(losses):
    (axes,) = training_figure("Loss", "loss", {"float training": epochs(*losses)}).axes
    low, high = axes.get_ylim()
    for line in axes.lines:
        assert low <= min(line.get_ydata()) and max(line.get_ydata()) <= high


def test_predictions_are_marked_as_right_or_wrong(page):
    assert "true class: one" in page.texts("p")
    assert page.texts("small") == ["✓ Keras model: one (98.1 %)", "✗ int8 file: seven (50.0 %)"]


@pytest.mark.parametrize(
    "bad",
    [{"image": np.full((8, 8, 1), 255.0)}, {"image": np.zeros((8, 8))}, {"attention": np.full((4, 4), -1.0)}],
)
def test_the_old_page_stays_when_an_image_is_refused(tmp_path, bad):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"received \("):
        write_report(path, **facts(images=[example(**bad)]))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]


def test_the_old_page_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space left"):
            write_report(path, **facts())
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]
    write_report(path, **facts())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
