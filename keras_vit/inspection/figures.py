"""The figures by which papers show what a vision transformer sees and how it does. Each gives a matplotlib Figure.

They use no pyplot, so nothing is opened and no global state changes: `figure.savefig(path)` writes one, and a notebook
shows it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vit.inspection.attention_maps import gathered
from keras_vit.inspection.features import PatchGrid
from keras_vit.utils.missing import needs

_HEAT = "inferno"


def attention_figure(image: np.ndarray, attention: Mapping[str, np.ndarray], grid: PatchGrid):
    """What the class token looks at, by block and head; the mean of all patches if there is no token before them.

    Args:
        image: (height, width, 1 or 3), in [0, 1].
        attention: Of this image, by name of the block: (heads, queries, keys), see `keras_vit.attention_maps`.
        grid: See `keras_vit.inspection.features.patch_grid`.
    """
    blocks = {name: gathered(probabilities, grid) for name, probabilities in attention.items()}
    figure, tiles = _tiles(max(map(len, blocks.values())), len(blocks), image)
    for column, (name, heads) in enumerate(blocks.items()):
        tiles[0, column].set_title(name, fontsize=9)
        for head, heat in enumerate(heads):
            _overlay(tiles[head, column], image, heat)
    for head, tile in enumerate(tiles[:, 0]):
        tile.set_ylabel(f"head {head}", fontsize=9)
    return figure


def rollout_figure(image: np.ndarray, rollout: np.ndarray):
    """The image, and beside it the attention rollout laid over it (Abnar and Zuidema, arXiv 2005.00928).

    Args:
        image: (height, width, 1 or 3), in [0, 1].
        rollout: (rows, columns), see `keras_vit.attention_rollout`.
    """
    figure, ((plain, overlaid),) = _tiles(1, 2, image, side=3.0)
    plain.imshow(_rgb(image))
    plain.set_title("image")
    _overlay(overlaid, image, rollout)
    overlaid.set_title("attention rollout")
    return figure


def distance_figure(distances: Mapping[str, np.ndarray]):
    """Mean attention distance of each head by depth (Dosovitskiy et al., arXiv 2010.11929, figure 7, right).

    Args:
        distances: By name of the block: (heads,), in pixels, see `keras_vit.attention_distance`.
    """
    figure = _figure(6, 3.6)
    axes = figure.add_subplot()
    for depth, heads in enumerate(distances.values()):
        axes.scatter([depth] * len(heads), heads, s=24, color="tab:blue", alpha=0.7)
    axes.set_xlabel("block")
    axes.set_ylabel("mean attention distance, pixels")
    axes.set_ylim(0, 1.1 * max(1, *(heads.max() for heads in distances.values())))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    return figure


def position_figure(similarity: np.ndarray):
    """Similarity of each patch's position to all others (Dosovitskiy et al., arXiv 2010.11929, figure 7, centre).

    Args:
        similarity: (rows, columns, rows, columns), see `keras_vit.position_similarity`.
    """
    rows, columns = similarity.shape[:2]
    gap = max(1, min(rows, columns) // 6)
    height, width = rows + gap, columns + gap
    canvas = np.full((rows * height - gap, columns * width - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            canvas[row * height :, column * width :][:rows, :columns] = similarity[row, column]
    figure = _figure(6, 0.8 + 5 * canvas.shape[0] / canvas.shape[1])
    axes = figure.add_subplot()
    shown = axes.imshow(canvas, cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
    every = max(1, rows // 8), max(1, columns // 8)
    axes.set_yticks(np.arange(0, rows, every[0]) * height + (rows - 1) / 2, range(0, rows, every[0]))
    axes.set_xticks(np.arange(0, columns, every[1]) * width + (columns - 1) / 2, range(0, columns, every[1]))
    axes.set_ylabel("row of the patch")
    axes.set_xlabel("column of the patch")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, label="cosine similarity", shrink=0.8)
    return figure


def feature_figure(image: np.ndarray, maps: Mapping[str, np.ndarray]):
    """The three main components of each map, as red, green and blue: what looks alike has one colour.

    Args:
        image: (height, width, 1 or 3), in [0, 1].
        maps: Of this image, by name: (rows, columns, channels), see `keras_vit.feature_extractor`.
    """
    count = 1 + len(maps)
    columns = min(count, 6)
    figure, tiles = _tiles(math.ceil(count / columns), columns, image, side=1.6, gap=0.45)
    plain, *others = tiles.flat
    plain.imshow(_rgb(image))
    plain.set_title("image", fontsize=9)
    for tile, (name, features) in zip(others, maps.items(), strict=False):
        tile.imshow(principal_colours(features), interpolation="nearest", aspect=_aspect(image, features))
        tile.set_title(f"{name}\n{' x '.join(map(str, features.shape))}", fontsize=9)
    for tile in others[len(maps) :]:
        tile.set_visible(False)
    return figure


def principal_colours(features: np.ndarray) -> np.ndarray:
    """(rows, columns, channels) to (rows, columns, 3) in [0, 1]: the three directions of greatest variance.

    Each is scaled to its own range. A map of fewer channels or positions leaves the rest gray.
    """
    rows, columns, channels = features.shape
    values = features.reshape(-1, channels).astype("float64")
    values -= values.mean(axis=0)
    left, strength, right = np.linalg.svd(values, full_matrices=False)
    scores = left[:, :3] * strength[:3]
    # The sign of a component is arbitrary: its largest weight is made positive, so that a picture stays as it is.
    scores = scores * np.sign(right[np.arange(len(right[:3])), np.abs(right[:3]).argmax(axis=1)])
    colours = np.full((rows * columns, 3), 0.5)
    for index, score in enumerate(scores.T):
        span = np.ptp(score)
        if span > 1e-9:
            colours[:, index] = (score - score.min()) / span
    return colours.reshape(rows, columns, 3)


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]):
    """Which classes are taken for which, as shares of each class' images, and the most frequent mistakes.

    Args:
        confusion: Images by class: (true, predicted).
        class_names: One name a class.
    """
    classes = len(class_names)
    names = [name if len(name) <= 20 else f"{name[:19]}…" for name in class_names]
    # As large as its names need, and a pixel or more for each of a thousand classes.
    side = min(10, max(4, 1 + 0.25 * classes))
    figure = _figure(side + 4.5, side)
    matrix, mistakes = figure.subplots(1, 2, width_ratios=(side, 2.6))
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    # The square root keeps rare mistakes from vanishing beside what is right.
    shown = matrix.imshow(np.sqrt(shares), cmap=_HEAT, vmin=0, vmax=1, interpolation="nearest")
    matrix.set_xlabel("predicted class")
    matrix.set_ylabel("class")
    if classes <= 36:
        matrix.set_xticks(range(classes), names, rotation=90, fontsize=8)
        matrix.set_yticks(range(classes), names, fontsize=8)
    if classes <= 20:
        for (row, column), images in np.ndenumerate(confusion):
            if images:
                colour = "black" if shares[row, column] > 0.4 else "white"
                matrix.text(column, row, images, ha="center", va="center", color=colour, fontsize=7)
    ticks = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar = figure.colorbar(shown, ax=matrix, label="share of the class' images", shrink=0.8)
    bar.set_ticks(np.sqrt(ticks), labels=[f"{tick:.0%}" for tick in ticks])

    wrong = np.where(np.eye(classes, dtype=bool), 0, confusion)
    most = np.argsort(-wrong, axis=None, kind="stable")[:15]
    found = [divmod(int(place), classes) for place in most if wrong.flat[place]]
    mistakes.barh(range(len(found)), [wrong[cell] for cell in found], color="tab:blue", alpha=0.7)
    mistakes.set_yticks(range(len(found)), [f"{names[row]} → {names[column]}" for row, column in found], fontsize=8)
    mistakes.set_ylim(14.5, -0.5)
    mistakes.locator_params(axis="x", integer=True)
    mistakes.set_title("most frequent mistakes" if found else "no mistakes", fontsize=9)
    mistakes.set_xlabel("images")
    mistakes.spines[["top", "right"]].set_visible(False)
    return figure


def learning_rate_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
):
    """The loss at rising learning rates (Smith, arXiv 1506.01186, section 3.3).

    Args:
        rates: Learning rates.
        losses: The loss at each.
        smoothed: Its moving average.
        suggestion: The rate to mark, if there is one.
    """
    figure = _figure(6, 3.6)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="tab:blue", alpha=0.35, label="loss")
    axes.plot(rates, smoothed, color="tab:blue", label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion: {suggestion:.2g}")
    axes.set_xscale("log")
    # What diverges would leave nothing to see of the rest.
    low, first = min(smoothed), smoothed[0]
    axes.set_ylim(low - 0.15 * (first - low) - 1e-3, first + 0.6 * (first - low) + 1e-3)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


def _figure(width, height):
    with needs("matplotlib", "drawing a figure", "inspect"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def _tiles(rows, columns, image, side=1.1, gap=0.05):
    """A figure of small pictures without axes, each `side` inches wide, as an array (rows, columns)."""
    figure = _figure(side * columns + 0.3, (side * image.shape[0] / image.shape[1] + gap) * rows + 0.4)
    tiles = figure.subplots(rows, columns, squeeze=False)
    for tile in tiles.flat:
        tile.set_xticks([])
        tile.set_yticks([])
        tile.spines[:].set_visible(False)
    return figure, tiles


def _overlay(tile, image, heat):
    """The image in pale gray, and over it the heat of each patch, scaled to its own largest."""
    height, width = image.shape[:2]
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    heat = heat / max(heat.max(), 1e-12)
    tile.imshow(0.3 + 0.7 * _rgb(image).mean(axis=-1), cmap="gray", vmin=0, vmax=1, extent=box)
    tile.imshow(heat, cmap=_HEAT, vmin=0, vmax=1, alpha=0.2 + 0.7 * heat, extent=box, interpolation="nearest")


def _rgb(image):
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not 0 <= image.min() <= image.max() <= 1:
        raise ValueError(
            "A picture is (height, width, 1 or 3) with values in [0, 1]; received "
            f"{image.shape} with values from {image.min():g} to {image.max():g}."
        )
    return np.repeat(image, 3 // image.shape[2], axis=2)


def _aspect(image, features):
    """Height of a pixel of the map over its width, so that the map has the image's shape."""
    return (image.shape[0] / features.shape[0]) / (image.shape[1] / features.shape[1])
