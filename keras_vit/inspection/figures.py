"""Figures of attention, features, accuracy and training, as matplotlib figures.

They are made without pyplot, so no window opens and no global state changes. `figure.savefig(path)` writes a figure to
a file, and a notebook displays it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.inspection.attention_maps import patch_attention
from keras_vit.inspection.features import PatchGrid
from keras_vit.utils.missing import needs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEAT_COLORS = "inferno"
BLUE, ORANGE = "tab:blue", "tab:orange"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure.

    Args:
        width: Width in inches.
        height: Height in inches.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    with needs("matplotlib", "drawing a figure", "inspect"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def attention_figure(image: np.ndarray, attention: Mapping[str, np.ndarray], grid: PatchGrid) -> Figure:
    """Draw the attention of the class token by block and head, or without a class token the mean over all queries.

    Args:
        image: Array of shape `(height, width, 1 or 3)` with values in [0, 1].
        attention: Attention probabilities for this image: a dictionary from the name of each block to an array of shape
            `(heads, queries, keys)`; see `keras_vit.attention_maps`.
        grid: The grid of patches; see `keras_vit.inspection.features.patch_grid`.
    """
    blocks = {name: patch_attention(probabilities, grid) for name, probabilities in attention.items()}
    figure, tiles = _tiles(max(map(len, blocks.values())), len(blocks), image)
    for column, (name, heads) in enumerate(blocks.items()):
        tiles[0, column].set_title(name, fontsize=9)
        for head, heat in enumerate(heads):
            _overlay(tiles[head, column], image, heat)
    for head, tile in enumerate(tiles[:, 0]):
        tile.set_ylabel(f"head {head}", fontsize=9)
    return figure


def overlay_figure(image: np.ndarray, heat: np.ndarray, title: str, side: float = 3.0) -> Figure:
    """Draw an image, and beside it the same image under a heat map.

    Args:
        image: Array of shape `(height, width, 1 or 3)` with values in [0, 1].
        heat: Array of shape `(rows, columns)` with values from 0, such as `keras_vit.attention_rollout` returns for an
            image. It is scaled to its maximum.
        title: Title of the heat map.
        side: Width of each of the two in inches.
    """
    figure, ((plain, overlaid),) = _tiles(1, 2, image, side)
    plain.imshow(_rgb(image), interpolation="nearest")
    plain.set_title("image")
    _overlay(overlaid, image, heat)
    overlaid.set_title(title)
    return figure


def distance_figure(distances: Mapping[str, np.ndarray]) -> Figure:
    """Draw the mean attention distance of each head by depth (Dosovitskiy et al., arXiv 2010.11929, figure 7, right).

    Args:
        distances: Dictionary from the name of each block to an array of shape `(heads,)`, in pixels; see
            `keras_vit.attention_distance`.
    """
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    for depth, heads in enumerate(distances.values()):
        axes.scatter([depth] * len(heads), heads, s=24, color=BLUE, alpha=0.7)
    axes.set_xlabel("block")
    axes.set_ylabel("mean attention distance, pixels")
    axes.set_ylim(0, 1.1 * max(1, *(heads.max() for heads in distances.values())))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    return figure


def position_figure(similarity: np.ndarray) -> Figure:
    """Draw the similarity of each position to all others (Dosovitskiy et al., arXiv 2010.11929, figure 7, center).

    Args:
        similarity: Array of shape `(rows, columns, rows, columns)`; see `keras_vit.position_similarity`.
    """
    rows, columns = similarity.shape[:2]
    gap = max(1, min(rows, columns) // 6)
    height, width = rows + gap, columns + gap
    canvas = np.full((rows * height - gap, columns * width - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            canvas[row * height :, column * width :][:rows, :columns] = similarity[row, column]
    figure = new_figure(6, 0.8 + 5 * canvas.shape[0] / canvas.shape[1])
    axes = figure.add_subplot()
    shown = axes.imshow(canvas, cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
    row_step, column_step = max(1, rows // 8), max(1, columns // 8)
    named_rows, named_columns = np.arange(0, rows, row_step), np.arange(0, columns, column_step)
    axes.set_yticks(named_rows * height + (rows - 1) / 2, list(map(str, named_rows)))
    axes.set_xticks(named_columns * width + (columns - 1) / 2, list(map(str, named_columns)))
    axes.set_ylabel("row of the patch")
    axes.set_xlabel("column of the patch")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, label="cosine similarity", shrink=0.8)
    return figure


def feature_figure(image: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """Draw the first three principal components of feature maps as red, green and blue.

    Args:
        image: Array of shape `(height, width, 1 or 3)` with values in [0, 1].
        maps: Feature maps of this image: a dictionary from names to arrays of shape `(rows, columns, channels)`; see
            `keras_vit.feature_extractor`.
    """
    count = 1 + len(maps)
    columns = min(count, 6)
    figure, tiles = _tiles(math.ceil(count / columns), columns, image, side=1.6, gap=0.45)
    plain, *others = tiles.flat
    plain.imshow(_rgb(image))
    plain.set_title("image", fontsize=9)
    for tile, (name, features) in zip(others, maps.items(), strict=False):
        tile.imshow(principal_colors(features), interpolation="nearest", aspect=_aspect(image, features))
        tile.set_title(f"{name}\n{' x '.join(map(str, features.shape))}", fontsize=9)
    for tile in others[len(maps) :]:
        tile.set_visible(False)
    return figure


def principal_colors(features: np.ndarray) -> np.ndarray:
    """Map features to colors by their first three principal components, each scaled to its own range.

    Args:
        features: Array of shape `(rows, columns, channels)`.

    Returns:
        An array of shape `(rows, columns, 3)` with values in [0, 1]. Where there are fewer than three components, the
        other colors are 0.5.
    """
    rows, columns, channels = features.shape
    values = features.reshape(-1, channels).astype("float64")
    values -= values.mean(axis=0)
    left, strength, right = np.linalg.svd(values, full_matrices=False)
    scores = left[:, :3] * strength[:3]
    # The sign of a component is arbitrary. Making its largest weight positive gives the same colors every time.
    scores = scores * np.sign(right[np.arange(len(right[:3])), np.abs(right[:3]).argmax(axis=1)])
    colors = np.full((rows * columns, 3), 0.5)
    for index, score in enumerate(scores.T):
        span = np.ptp(score)
        if span > 1e-9:
            colors[:, index] = (score - score.min()) / span
    return colors.reshape(rows, columns, 3)


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix, as shares of the images of each class, and the most frequent mistakes.

    Args:
        confusion: Number of images by class and predicted class, of shape `(classes, classes)`.
        class_names: The names of the classes.
    """
    classes = len(class_names)
    names = [name if len(name) <= 20 else f"{name[:19]}…" for name in class_names]
    # Large enough for the names, and for at least one pixel a class with a thousand classes.
    side = min(10, max(4, 1 + 0.25 * classes))
    figure = new_figure(side + 4.5, side)
    matrix, mistakes = figure.subplots(1, 2, width_ratios=(side, 2.6))
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    # The square root keeps rare mistakes visible.
    shown = matrix.imshow(np.sqrt(shares), cmap=_HEAT_COLORS, vmin=0, vmax=1, interpolation="nearest")
    matrix.set_xlabel("predicted class")
    matrix.set_ylabel("class")
    if classes <= 36:
        matrix.set_xticks(range(classes), names, rotation=90, fontsize=8)
        matrix.set_yticks(range(classes), names, fontsize=8)
    if classes <= 20:
        for (row, column), images in np.ndenumerate(confusion):
            if images:
                color = "black" if shares[row, column] > 0.4 else "white"
                matrix.text(column, row, images, ha="center", va="center", color=color, fontsize=7)
    ticks = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar = figure.colorbar(shown, ax=matrix, label="share of the images of the class", shrink=0.8)
    bar.set_ticks(np.sqrt(ticks), labels=[f"{tick:.0%}" for tick in ticks])

    wrong = np.where(np.eye(classes, dtype=bool), 0, confusion)
    most_frequent = np.argsort(-wrong, axis=None, kind="stable")[:15]
    cells = [divmod(int(index), classes) for index in most_frequent if wrong.flat[index]]
    mistakes.barh(range(len(cells)), [wrong[cell] for cell in cells], color=BLUE, alpha=0.7)
    mistakes.set_yticks(range(len(cells)), [f"{names[row]} → {names[column]}" for row, column in cells], fontsize=8)
    mistakes.set_ylim(14.5, -0.5)
    mistakes.locator_params(axis="x", integer=True)
    mistakes.set_title("most frequent mistakes" if cells else "no mistakes", fontsize=9)
    mistakes.set_xlabel("images")
    mistakes.spines[["top", "right"]].set_visible(False)
    return figure


def learning_rate_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> Figure:
    """Draw the loss at increasing learning rates (Smith, arXiv 1506.01186, section 3.3).

    Args:
        rates: The learning rates.
        losses: The loss at each learning rate.
        smoothed: The moving average of the losses.
        suggestion: The learning rate to mark, or None.
    """
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=BLUE, alpha=0.35, label="loss")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion: {suggestion:.2g}")
    axes.set_xscale("log")
    # The limits leave out the diverging end, which would flatten the rest.
    low, first = min(smoothed), smoothed[0]
    axes.set_ylim(low - 0.15 * (first - low) - 1e-3, first + 0.6 * (first - low) + 1e-3)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


def bar_figure(values: Mapping[str, float], title: str, label: str) -> Figure:
    """Draw named values as horizontal bars, the first at the top.

    Args:
        values: The values by name. A value that is not finite has no bar.
        title: Title of the figure.
        label: What the values are, with their unit.
    """
    figure = new_figure(6.4, 0.9 + 0.2 * len(values))
    axes = figure.add_subplot()
    numbers = [value if math.isfinite(value) else 0.0 for value in values.values()]
    bars = axes.barh(range(len(values)), numbers, color=BLUE, height=0.7)
    axes.bar_label(bars, [f"{value:.1f}" for value in values.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(values)), list(values), fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _tiles(rows, columns, image, side=1.1, gap=0.05):
    """Return a figure and its `(rows, columns)` array of axes without ticks, each `side` inches wide."""
    figure = new_figure(side * columns + 0.3, (side * image.shape[0] / image.shape[1] + gap) * rows + 0.4)
    tiles = figure.subplots(rows, columns, squeeze=False)
    for tile in tiles.flat:
        tile.set_xticks([])
        tile.set_yticks([])
        tile.spines[:].set_visible(False)
    return figure, tiles


def _overlay(tile, image, heat):
    """Draw the image in pale gray, and the heat map over it, scaled to its maximum."""
    if heat.ndim != 2 or not 0 <= heat.min() <= heat.max() < math.inf:
        raise ValueError(
            "A heat map must have the shape (rows, columns) and values from 0; received "
            f"{heat.shape} with values from {heat.min():g} to {heat.max():g}."
        )
    height, width = image.shape[:2]
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    heat = heat / max(heat.max(), 1e-12)
    gray = 0.3 + 0.7 * _rgb(image).mean(axis=-1)
    tile.imshow(gray, cmap="gray", vmin=0, vmax=1, extent=box, interpolation="nearest")
    tile.imshow(heat, cmap=_HEAT_COLORS, vmin=0, vmax=1, alpha=0.2 + 0.7 * heat, extent=box, interpolation="nearest")


def _rgb(image):
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not 0 <= image.min() <= image.max() <= 1:
        raise ValueError(
            "An image must have the shape (height, width, 1 or 3) and values in [0, 1]; received "
            f"{image.shape} with values from {image.min():g} to {image.max():g}."
        )
    return np.repeat(image, 3 // image.shape[2], axis=2)


def _aspect(image, features):
    """Return the aspect of the pixels of a map that gives the map the shape of the image."""
    return (image.shape[0] / features.shape[0]) / (image.shape[1] / features.shape[1])
