import base64
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tensorflow as tf

from keras_vit.demo.report import FileResult, Picture, table, write_report

VOID = {"img", "link", "meta"}
HOSTILE = "</title></svg><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;"

FILES = [
    FileResult("small", "small.float32.tflite", 1_735_212, 0.99167, 1.0, 118.34, range(1, 12), 1.0, 1),
    FileResult("small", "small.hybrid_int8.tflite", 498_004, 0.98889, 0.9972, 33.4, [2.0, 2.0], 3.0, 2),
    FileResult("large", "large.float32.tflite", 22_905_000, agreement=1.0, snr_db=math.inf),
]
CELLS = [  # worked out by hand from FILES
    ["small", "small.float32.tflite", "1.74", "99.17", "100.00", "118.3", "6.00", "10.0", "1.00", "1"],
    ["small", "small.hybrid_int8.tflite", "0.498", "98.89", "99.72", "33.4", "2.00", "2.00", "3.00", "2"],
    ["large", "large.float32.tflite", "22.9", "–", "100.00", "inf", "–", "–", "–", "–"],  # noqa: RUF001
]


def epochs(*losses):
    return [
        {"loss": loss, "val_loss": loss + 0.1, "accuracy": 1 - loss / 4, "val_accuracy": 0.9 - loss / 4}
        for loss in losses
    ]


def picture(**changes):
    image = np.zeros((8, 8, 1), "float32")
    image[2:6, 3] = 1.0
    fields = {
        "image": image,
        "label": "one",
        "predictions": {"Keras model": ("one", 0.981), "int8 file": ("seven", 0.5)},
        "attention": {"mean": np.arange(16.0).reshape(4, 4)},
    }
    return Picture(**fields | changes)


def facts(**changes):
    return {
        "title": "A run",
        "summary": "What was done.",
        "highlights": [("2.7 times", "as fast")],
        "files": FILES,
        "curves": {"float training": epochs(2.0, 1.0, 0.5), "quantization-aware training": epochs(0.7, 0.4)},
        "pictures": [picture()],
        "environment": {"CPU": "A processor", "threads": 1},
    } | changes


class Page(HTMLParser):
    """Every element as (tag, attributes, texts inside it); fails on a tag that closes another or nothing."""

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
        """What a browser would fetch or run because of this page."""
        addresses = [
            value
            for _, attributes, _ in self.elements
            for name, value in attributes.items()
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and value[:5] != "data:"
        ]
        handlers = [name for _, attributes, _ in self.elements for name in attributes if name[:2] == "on"]
        styles = re.findall(r"@import|url\(", "".join(self.texts("style")))
        return addresses + handlers + styles + self.texts("script")


@pytest.fixture
def page(tmp_path):
    def build(**changes):
        write_report(tmp_path / "report.html", **facts(**changes))
        return Page(tmp_path / "report.html")

    return build


def png(image):
    attributes, _ = image
    data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"), validate=True)
    return tf.io.decode_png(data).numpy().astype(float) / 255


def test_page_is_balanced_and_asks_for_nothing(page):
    result = page()
    assert result.requests() == []
    assert "http" not in result.source.replace("http-equiv", "")
    policy = next(a["content"] for a, _ in result.find("meta") if "http-equiv" in a)
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
    cells = page().texts("td")
    assert [cells[i : i + 10] for i in range(0, len(cells), 10)] == CELLS


def test_terminal_table_has_the_same_cells_in_aligned_columns():
    headings, units, rule, *lines = table(FILES).split("\n")
    assert set(rule) == {"-"} and len(rule) == max(map(len, (headings, *lines)))
    assert units.split() == ["MB", "%", "%", "dB", "ms", "ms", "\N{MULTIPLICATION SIGN}"]
    assert [line.split() for line in lines] == CELLS
    spans = [[match.span() for match in re.finditer(r"\S+", line)] for line in (headings, *lines)]
    for number, column in enumerate(zip(*spans, strict=True)):
        starts, ends = zip(*column, strict=True)
        assert len(set(starts if number < 2 else ends)) == 1  # texts to the left, numbers to the right
    assert table([]).split("\n")[0].split()[:2] == ["Model", "File"]


def test_hostile_text_stays_text(page):
    result = page(
        title=HOSTILE,
        summary=HOSTILE,
        highlights=[(HOSTILE, HOSTILE)],
        files=[FileResult(HOSTILE, HOSTILE, 1, samples_ms=[1.0])],
        curves={"first": epochs(1.0), HOSTILE: epochs(1.0)},
        pictures=[picture(label=HOSTILE, predictions={HOSTILE: (HOSTILE, 1.0)}, attention={HOSTILE: np.eye(2)})],
        environment={HOSTILE: HOSTILE},
    )
    assert result.requests() == []
    assert result.texts("td")[:2] == [HOSTILE, HOSTILE]
    for tag in ("h1", "strong", "dt", "dd"):
        assert HOSTILE in result.texts(tag)
    assert any(attributes["alt"].endswith(HOSTILE) for attributes, _ in result.find("img"))


def test_empty_sections_are_left_out(page):
    assert page().texts("h2") == ["Results", "Latency", "Learning", "Test images", "Measured on"]
    unmeasured = [FileResult("large", "large.tflite", 10)]
    nothing = {"highlights": [], "curves": {"float": []}, "pictures": [], "environment": {}}
    assert page(files=unmeasured, **nothing).texts("h2") == ["Results"]


def test_same_facts_make_the_same_bytes(page):
    assert page().source == page().source


def test_charts_are_described(page):
    result = page()
    assert [a["role"] for a, _ in result.find("svg")] == ["img"] * 3  # one model was timed, and two curves
    titles = result.texts("title")
    assert titles == ["A run", "small", "Loss", "Accuracy, %"]
    assert "small.float32.tflite: p50 6.00, p90 10.0 ms" in result.texts("desc")[0]


@pytest.mark.parametrize("scale", [0.003, 1.0, 470.0])
def test_latency_dots_lie_where_their_milliseconds_are(page, scale):
    samples = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]) * scale
    result = page(files=[FileResult("m", "m.tflite", 10, samples_ms=samples)], curves={})
    dots = [float(a["cx"]) for a, _ in result.find("circle", "dot")]
    *ticks, (_, unit) = [(a["x"], text) for a, text in result.find("text") if a.get("text-anchor") == "middle"]
    places, milliseconds = np.array(ticks, float).T
    assert unit.startswith("ms") and milliseconds[0] == 0 and len(ticks) >= 4
    # The printed ticks are a reader's only key to the axis: the dots are read through them.
    np.testing.assert_allclose(np.interp(dots, places, milliseconds), samples, rtol=1e-3)


def test_a_disturbed_run_is_counted_and_leaves_the_axis_alone(page):
    samples = [10.0] * 40 + [2000.0]
    result = page(files=[FileResult("m", "m.tflite", 10, samples_ms=samples)])
    assert len(result.find("circle", "dot")) == 40
    assert "1 ▸" in result.texts("text")


def test_curves_go_on_where_the_phase_before_ended(page):
    result = page(files=[])
    assert result.texts("text").count("quantization-aware training, from epoch 4") == 2
    lines = [
        np.array([point.split(",") for point in a["points"].split()], float)
        for a, _ in result.find("polyline", "curve validation")
    ]
    _, floats, quantized, *_ = lines  # the first is the legend's
    assert [len(floats), len(quantized)] == [3, 2]
    x, y = np.concatenate([floats, quantized]).T
    axis = [(a["x"], text) for a, text in result.find("text") if a.get("text-anchor") == "middle"]
    places, numbers = np.array(axis[: len(axis) // 2 - 1], float).T  # of two equal axes, each ended by its title
    np.testing.assert_allclose(np.interp(x, places, numbers), [1, 2, 3, 4, 5], atol=0.01)
    losses = np.array([2.1, 1.1, 0.6, 0.8, 0.5])
    slope, start = np.polyfit(losses, y, 1)
    assert slope < 0  # SVG counts downwards
    np.testing.assert_allclose(slope * losses + start, y, atol=0.11)


@pytest.mark.parametrize("losses", [(0.5,), (0.5, 0.5), (1e-7, 3e4)])
def test_curves_of_any_range_stay_in_the_picture(page, losses):
    result = page(curves={"float training": epochs(*losses)})
    box = [float(number) for number in result.find("svg")[1][0]["viewbox"].split()]
    for attributes, _ in result.find("polyline"):
        for point in attributes["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= box[2] and 0 <= y <= box[3]


def test_pictures_are_enlarged_without_new_values(page):
    rgb = np.random.default_rng(0).random((4, 6, 3))
    image, overlay = map(png, page(pictures=[picture(image=rgb)]).find("img"))
    factor = image.shape[0] // 4
    assert factor >= 2 and image.shape == overlay.shape == (4 * factor, 6 * factor, 3)
    np.testing.assert_allclose(image, rgb.repeat(factor, 0).repeat(factor, 1), atol=0.5 / 255 + 1e-6)


def test_overlay_glows_where_attention_is(page):
    attention = np.array([[0.0, 0.0], [0.0, 3.0]])
    _, overlay = map(png, page(pictures=[picture(attention={"mean": attention})]).find("img"))
    half = len(overlay) // 2
    glow = overlay[..., 0] - overlay[..., 2]
    assert glow[half:, half:].min() > 0.2
    assert np.abs(glow[:half]).max() == np.abs(glow[:, :half]).max() == 0


def test_predictions_say_right_and_wrong_in_words_and_marks(page):
    (caption,) = (text for text in page().texts("figcaption") if "true class" in text)
    assert caption == "true class: one✓ Keras model: one (98.1 %)✗ int8 file: seven (50.0 %)"


@pytest.mark.parametrize(
    "bad",
    [
        {"image": np.zeros((8, 8))},
        {"image": np.zeros((8, 8, 2))},
        {"image": np.full((8, 8, 1), 255.0)},
        {"image": np.full((8, 8, 1), np.nan)},
        {"attention": {"mean": np.zeros((1, 4, 4))}},
        {"attention": {"mean": np.full((4, 4), -1.0)}},
        {"attention": {"mean": np.full((4, 4), np.inf)}},
    ],
)
def test_a_bad_picture_is_named_and_the_old_page_stays(tmp_path, bad):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"received \("):
        write_report(path, **facts(pictures=[picture(**bad)]))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]


def test_a_failure_while_writing_leaves_the_old_page_alone(tmp_path, monkeypatch):
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
