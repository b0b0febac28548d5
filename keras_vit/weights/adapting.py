"""Adapt a file's arrays to a model for images of another size, with other windows or another number of channels."""

import math

import keras
import numpy as np

from keras_vit.layers import PositionEmbedding
from keras_vit.weights.matching import Match


def adapt(match: Match, model: keras.Model, position_grid: tuple[int, int] | None) -> None:
    """Adapt the arrays to the image size, the number of image channels and the class token of the model."""
    try:
        _adapt_positions(match, position_grid)
        _adapt_relative_positions(match)
    except ValueError as error:
        raise ValueError(f"{match.path!r} does not fit {model.name!r}: {error}") from error
    _adapt_channels(match)


def _adapt_positions(match, position_grid):
    token, values = "class_token/token", match.values
    for leaf, layer in match.layers.items():
        name = f"{leaf}/table"
        if not isinstance(layer, PositionEmbedding) or name not in values:
            continue
        table = values[name]
        if table.ndim != 3 or table.shape[2] != layer.table.shape[2]:
            continue  # `check_values` names the two shapes.
        prefix, grid = _prefix_and_grid(table.shape[1], layer, position_grid)
        if prefix < layer.prefix:
            table = np.pad(table, ((0, 0), (layer.prefix - prefix, 0), (0, 0)))
            match.adapted.append(name)
        elif prefix > layer.prefix:
            if token not in values:
                continue
            values[token] = values[token] + table[:, :1]
            table = table[:, 1:]
            match.adapted += [name, token]
        values[name] = layer.resized(table, grid)
        if grid != layer.grid:
            match.resized.append(name)


def _adapt_relative_positions(match):
    """Resize tables of relative positions to the windows of the model.

    A layer with such a table has a method `resized(table)`, which returns its table, computed from the file's.
    """
    for leaf, layer in match.layers.items():
        name = f"{leaf}/table"
        if isinstance(layer, PositionEmbedding) or not hasattr(layer, "resized") or name not in match.values:
            continue
        table = match.values[name]
        if table.ndim == 2 and table.shape[1] == layer.table.shape[1] and len(table) != layer.table.shape[0]:
            match.values[name] = layer.resized(table)
            match.resized.append(name)


def _prefix_and_grid(rows, layer, position_grid):
    """Return the number of tokens before the patches in a position table with these rows, and the grid of patches."""
    # The number of tokens that the model has, or that of a class token without or with a position.
    for prefix in (layer.prefix, 0, 1):
        side = math.isqrt(max(0, rows - prefix))
        for grid in [(side, side), layer.grid] if position_grid is None else [tuple(position_grid)]:
            if rows > prefix and grid[0] * grid[1] == rows - prefix:
                return prefix, grid
    if position_grid is None:
        raise ValueError(
            f"its position table has {rows} rows, which is not a square grid of patches; pass the rows and columns of "
            "patches: load_weights(model, path, position_grid=(rows, columns))"
        )
    raise ValueError(
        f"its position table has {rows} rows, which is not a grid of {position_grid[0]} x {position_grid[1]} patches, "
        "nor one with a class token"
    )


def _adapt_channels(match):
    """Adapt a first kernel for images with three channels to a different number of channels, as timm does."""
    leaf, layer = next(iter(match.layers.items()))
    name = f"{leaf}/kernel"
    if not isinstance(layer, keras.layers.Conv2D) or name not in match.values or match.values[name].ndim != 4:
        return
    kernel, channels = match.values[name], layer.kernel.shape[2]
    if kernel.shape[2] != 3 or channels == 3:
        return
    if channels == 1:
        match.values[name] = kernel.sum(axis=2, keepdims=True)
    else:
        match.values[name] = kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)
    match.adapted.append(name)
