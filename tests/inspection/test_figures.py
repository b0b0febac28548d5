"""Figures: the data read back from their axes."""

import io
import sys

import numpy as np
import pytest

from keras_vit.inspection import figures
from keras_vit.inspection.features import PatchGrid

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((16, 24, 3))
GRID = PatchGrid(rows=2, columns=3, height=8, width=8)


def pixels(figure):
    """Return the rendered figure."""
    import matplotlib.image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return matplotlib.image.imread(buffer)


def heat_of(tile):
    return np.asarray(tile.images[1].get_array())


def test_confusion_and_the_most_frequent_mistakes():
    confusion = np.array([[6, 0, 2], [3, 9, 0], [0, 0, 0]])
    figure = figures.confusion_figure(confusion, ["ant", "bee", "a class of a long name"])
    assert pixels(figure).std() > 0.1
    matrix, mistakes, _ = figure.axes
    np.testing.assert_allclose(np.square(matrix.images[0].get_array()), [[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 0, 0]])
    assert sorted(text.get_text() for text in matrix.texts) == ["2", "3", "6", "9"]
    assert [label.get_text() for label in mistakes.get_yticklabels()] == ["bee → ant", "ant → a class of a long n…"]
    assert [bar.get_width() for bar in mistakes.patches] == [3, 2]


def test_loss_at_rising_learning_rates():
    rates, losses = (1e-3, 1e-2, 1e-1), (2.0, 1.0, 50.0)
    figure = figures.learning_rate_figure(rates, losses, losses, 2e-3)
    assert pixels(figure).std() > 0.1
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_ylim()[1] < 5
    assert [line.get_xdata()[0] for line in axes.lines] == [1e-3, 1e-3, 2e-3]
    assert len(figures.learning_rate_figure(rates, losses, losses, None).axes[0].lines) == 2


def test_attention_by_block_and_head():
    attention = {name: RANDOM.random((heads, 7, 7)) for name, heads in (("a", 2), ("b", 2), ("c", 2))}
    figure = figures.attention_figure(IMAGE, attention, GRID)
    assert pixels(figure).std() > 0.1
    tiles = np.reshape(figure.axes, (2, 3))
    assert [tile.get_title() for tile in tiles[0]] == ["a", "b", "c"]
    assert [tile.get_ylabel() for tile in tiles[:, 0]] == ["head 0", "head 1"]
    expected = attention["b"][1, 0, 1:].reshape(2, 3)
    np.testing.assert_allclose(heat_of(tiles[1, 1]), expected / expected.max())


def test_attention_without_a_class_token_is_the_mean_of_the_queries():
    attention = RANDOM.random((1, 6, 6))
    figure = figures.attention_figure(IMAGE, {"a": attention}, GRID)
    expected = attention[0].mean(axis=0).reshape(2, 3)
    np.testing.assert_allclose(heat_of(figure.axes[0]), expected / expected.max())


def test_a_heat_map_covers_the_whole_image():
    figure = figures.overlay_figure(IMAGE, RANDOM.random((2, 3)), "attention rollout")
    assert pixels(figure).std() > 0.1
    plain, overlaid = figure.axes
    assert overlaid.get_title() == "attention rollout"
    np.testing.assert_array_equal(plain.images[0].get_array(), IMAGE)
    assert all(list(shown.get_extent()) == [-0.5, 23.5, 15.5, -0.5] for shown in overlaid.images)


def test_distances_by_depth():
    distances = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0, 5.0])}
    (axes,) = figures.distance_figure(distances).axes
    dots = np.concatenate([collection.get_offsets() for collection in axes.collections])
    assert sorted(map(tuple, dots)) == [(0, 1), (0, 2), (1, 3), (1, 4), (1, 5)]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 5


def test_every_patch_has_its_tile_of_similarities():
    similarity = RANDOM.uniform(-1, 1, (2, 3, 2, 3))
    figure = figures.position_figure(similarity)
    assert pixels(figure).std() > 0.1
    canvas = np.asarray(figure.axes[0].images[0].get_array().filled(np.nan))
    assert canvas.shape == (5, 11)  # A gap of 1 between tiles.
    np.testing.assert_array_equal(canvas[3:5, 4:7], similarity[1, 1])
    assert np.isnan(canvas[2]).all() and np.isnan(canvas[:, 3]).all()


def test_principal_colors_are_the_projections_on_the_main_directions():
    features = RANDOM.normal(size=(4, 5, 6)) * [9, 1, 4, 0.1, 0.1, 0.1]
    values = features.reshape(20, 6)
    covariance = np.cov(values.T, bias=True)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :3]
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), range(3)])
    scores = values @ directions
    expected = (scores - scores.min(axis=0)) / np.ptp(scores, axis=0)
    np.testing.assert_allclose(figures.principal_colors(features).reshape(20, 3), expected, atol=1e-9)


def test_principal_colors_of_maps_with_fewer_than_three_components():
    assert np.all(figures.principal_colors(np.ones((2, 2, 8))) == 0.5)
    colors = figures.principal_colors(np.arange(4.0).reshape(2, 2, 1))
    np.testing.assert_allclose(colors[..., 0].ravel(), np.arange(4) / 3)
    assert np.all(colors[..., 1:] == 0.5)


def test_feature_maps_are_named_and_keep_the_shape_of_the_image():
    maps = {"a": RANDOM.random((8, 8, 4)), "b": RANDOM.random((2, 3, 16))}
    figure = figures.feature_figure(IMAGE, maps)
    assert pixels(figure).std() > 0.1
    assert [tile.get_title() for tile in figure.axes] == ["image", "a\n8 x 8 x 4", "b\n2 x 3 x 16"]
    assert figure.axes[1].get_aspect() == pytest.approx((16 / 8) / (24 / 8))


def test_pyplot_holds_no_figure():
    from matplotlib import pyplot

    figures.distance_figure({"a": np.ones(2)})
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    "image",
    [255 * IMAGE, IMAGE[..., :2], IMAGE[..., 0], np.full((8, 8, 1), np.nan)],
    ids=lambda image: str(image.shape),
)
def test_images_of_another_shape_or_range(image):
    with pytest.raises(ValueError, match=r"values in \[0, 1\]; received \(.*\) with values from"):
        figures.overlay_figure(image, np.ones((2, 3)), "")


@pytest.mark.parametrize("heat", [np.ones((1, 2, 3)), np.full((2, 3), -1.0), np.full((2, 3), np.inf)])
def test_heat_maps_of_another_shape_or_range(heat):
    with pytest.raises(ValueError, match=r"values from 0; received \(.*\) with values from"):
        figures.overlay_figure(IMAGE, heat, "")


def test_matplotlib_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "keras-vit\[inspect\]"'):
        figures.distance_figure({"a": np.ones(2)})
