"""Attention probabilities of a model, and what papers compute from them: rollout, distances, position similarity."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_vit.graph.flattening import flatten, leaves
from keras_vit.graph.reading import SOFTMAXES, inputs_of, producer
from keras_vit.inspection.features import NoSuchPart, PatchGrid, patch_grid
from keras_vit.layers import MatMul, PositionEmbedding


def attention_maps(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> dict[str, np.ndarray]:
    """Return the softmax probabilities of every attention layer of a model.

    Args:
        model: A functional or sequential model built from the layers of keras_vit. It may be flattened, fused or
            quantized.
        images: Images of shape `(images, height, width, channels)`, preprocessed for the model.
        batch_size: Number of images computed at once.

    Returns:
        A dictionary from the name of each block, in the order of the model, to a float32 array of shape
        `(images, heads, queries, keys)`, in which each row sums to 1. The names of attention layers that share a block
        are extended until they differ. Attention in windows is put back into place on the map: queries and keys are
        the pixels of the map, row by row, and the attention between different windows is 0. If the map was padded,
        attention to the padding is left out, so rows sum to less than 1. Attention between channels, as in XCiT, and
        between the pixels of a patch, as in TNT, is left out.

    Raises:
        NoSuchPart: If the model has no attention with a softmax.
        ValueError: If the model takes images of another shape.
    """
    flat = flatten(model)
    if len(flat.inputs) != 1:
        raise ValueError(
            f"The model {model.name!r} takes {len(flat.inputs)} inputs; attention_maps takes a model of one image. "
            "Pass the model inside it that computes the attention."
        )
    expected = tuple(flat.inputs[0].shape[1:])
    if np.ndim(images) != 4 or tuple(np.shape(images)[1:]) != expected:
        raise ValueError(
            f"The model {model.name!r} takes images (images, {', '.join(map(str, expected))}); "
            f"received the shape {np.shape(images)}."
        )
    softmaxes = [layer for layer in flat.layers if _is_softmax(layer) and _is_applied_to_a_product(layer)]
    if not softmaxes:
        raise NoSuchPart(f"The model {model.name!r} has no attention with a softmax.")
    names = _shortest_names([layer.name for layer in softmaxes])
    probabilities = keras.Model(flat.input, {name: layer.output for name, layer in zip(names, softmaxes, strict=True)})
    # For a few images this is faster than `predict`, which compiles a function first.
    batches = [
        {
            name: keras.ops.convert_to_numpy(keras.ops.cast(array, "float32"))
            for name, array in probabilities(images[start : start + batch_size], training=False).items()
        }
        for start in range(0, len(images), batch_size)
    ]
    maps = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    for name, layer in zip(names, softmaxes, strict=True):
        for windows in (layer, *_layers_of_scores(layer)):
            if hasattr(windows, "on_map"):
                maps[name] = windows.on_map(maps[name])
    return maps


def _is_softmax(layer):
    """Return whether a layer is a softmax, and not one that declares with `over_channels` that it compares channels."""
    return not getattr(layer, "over_channels", False) and _computes_softmax(layer)


def _computes_softmax(layer):
    return isinstance(layer, SOFTMAXES) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )


def _is_applied_to_a_product(layer):
    """Return whether a softmax is applied to products of queries and keys.

    Layers that keep the shape of the products, such as a scale or a mask, may come between.
    """
    return len(layer.output.shape) == 4 and any(isinstance(scores, MatMul) for scores in _layers_of_scores(layer))


def _layers_of_scores(layer):
    """Yield the layers and operations before a softmax up to the products, which all give the shape of the scores."""
    shape = layer.output.shape
    to_visit = [layer]
    while to_visit:
        for operation in (producer(tensor) for tensor in inputs_of(to_visit.pop()) if tensor.shape == shape):
            yield operation
            if not isinstance(operation, MatMul):
                to_visit.append(operation)


def _shortest_names(paths: list[str]) -> list[str]:
    """Shorten each path such as "block_0.attention.softmax" to the fewest leading parts that make it unique."""

    def prefix(path, parts):
        return ".".join(path.split(".")[:parts])

    def is_unique(path, parts):
        return sum(prefix(other, parts) == prefix(path, parts) for other in paths) == 1

    return [
        prefix(path, next(parts for parts in range(1, path.count(".") + 2) if is_unique(path, parts))) for path in paths
    ]


def attention_rollout(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> np.ndarray:
    """Return the attention rollout, an estimate of how much each patch contributes to the output.

    Reference: Abnar and Zuidema, arXiv 2005.00928, section 3.

    Args:
        model: A model that `attention_maps` takes, with a `PatchEmbedding`.
        images: Images of shape `(images, height, width, channels)`, preprocessed for the model.
        batch_size: Number of images computed at once.

    Returns:
        An array of shape `(images, rows, columns)` with the share of each patch, as `patch_attention` reads it. With a
        class token the shares sum to less than 1, because the class token has a share as well.

    Raises:
        NoSuchPart: If the model has no attention with a softmax, no `PatchEmbedding`, or blocks with different numbers
            of tokens.
    """
    grid = patch_grid(model)
    return rollout(attention_maps(model, images, batch_size=batch_size).values(), grid)


def rollout(attention: Iterable[np.ndarray], grid: PatchGrid) -> np.ndarray:
    """Compute the attention rollout from attention probabilities.

    The attention of each block is averaged over its heads, and then averaged with the identity matrix to account for
    the residual connection. The matrices of all blocks are multiplied. Attention whose queries are not the tokens, such
    as attention pooling, has no residual connection and is multiplied unchanged.

    Args:
        attention: For each block, from the first to the last, an array of shape `(images, heads, queries, keys)`.
        grid: The grid of patches, which are the last tokens.

    Returns:
        An array of shape `(images, rows, columns)`; see `attention_rollout`.

    Raises:
        NoSuchPart: If the blocks have different numbers of tokens.
    """
    flow: Any = None
    for probabilities in attention:
        mean = probabilities.mean(axis=1, dtype="float64")
        queries, keys = mean.shape[1:]
        if queries == keys:
            mean = 0.5 * mean + 0.5 * np.eye(keys)
            mean /= mean.sum(axis=-1, keepdims=True)
        if flow is not None and flow.shape[1] != keys:
            raise NoSuchPart(
                "Attention rollout needs the same tokens in all blocks; a block with "
                f"{keys} keys comes after one with {flow.shape[1]} tokens."
            )
        flow = mean if flow is None else mean @ flow
    return patch_attention(flow, grid)


def patch_attention(attention: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """Return the attention of the class token to each patch, or without a class token the mean over all queries.

    Args:
        attention: Probabilities of shape `(..., queries, keys)`.
        grid: The grid of patches, which are the last keys.

    Returns:
        An array of shape `(..., rows, columns)`.
    """
    prefix = grid.prefix(attention.shape[-1])
    to_keys = attention[..., 0, :] if prefix else attention.mean(axis=-2)
    return to_keys[..., prefix:].reshape(*attention.shape[:-2], grid.rows, grid.columns)


def attention_distance(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> dict[str, np.ndarray]:
    """Return the mean attention distance of each head, in pixels.

    Reference: Dosovitskiy et al., arXiv 2010.11929, appendix D.7 and figure 7.

    Args:
        model: A model that `attention_maps` takes, with a `PatchEmbedding`.
        images: Images of shape `(images, height, width, channels)`, preprocessed for the model. The paper averages over
            128 images.
        batch_size: Number of images computed at once.

    Returns:
        A dictionary from the name of each block to an array of shape `(heads,)`, the mean over images and patches.

    Raises:
        NoSuchPart: If the model has no attention with a softmax or no `PatchEmbedding`.
    """
    grid = patch_grid(model)
    return mean_distances(attention_maps(model, images, batch_size=batch_size), grid)


def mean_distances(attention: Mapping[str, np.ndarray], grid: PatchGrid) -> dict[str, np.ndarray]:
    """Compute mean attention distances from attention probabilities.

    Tokens other than patches have no position in the image. They are left out, and the rest of each row is scaled to
    sum to 1.

    Args:
        attention: A dictionary from the name of each block to an array of shape `(images, heads, queries, keys)`.
            Attention whose queries are not the tokens, such as attention pooling, is left out.
        grid: The grid of patches, which are the last tokens.

    Returns:
        A dictionary from the name of each block to an array of shape `(heads,)`, in pixels.
    """
    rows, columns = np.divmod(np.arange(grid.rows * grid.columns), grid.columns)
    distance = np.hypot(
        grid.height * (rows[:, np.newaxis] - rows), grid.width * (columns[:, np.newaxis] - columns)
    )  # (queries, keys)
    result = {}
    for name, probabilities in attention.items():
        if probabilities.shape[2] == probabilities.shape[3]:
            prefix = grid.prefix(probabilities.shape[3])
            patches = probabilities[:, :, prefix:, prefix:].astype("float64")
            total = np.maximum(patches.sum(axis=-1), np.finfo("float64").tiny)
            result[name] = ((patches * distance).sum(axis=-1) / total).mean(axis=(0, 2))
    return result


def position_similarity(model: keras.Model) -> np.ndarray:
    """Return the cosine similarities between the position embeddings of all patches.

    Reference: Dosovitskiy et al., arXiv 2010.11929, figure 7, center.

    Args:
        model: A functional or sequential model with a `PatchEmbedding` and a `PositionEmbedding`.

    Returns:
        An array of shape `(rows, columns, rows, columns)` with values in [-1, 1]. Element `[a, b, c, d]` compares the
        patch in row a and column b with the patch in row c and column d.

    Raises:
        NoSuchPart: If the model has no `PositionEmbedding` or no `PatchEmbedding`.
    """
    grid = patch_grid(model)
    tables = [layer.table for _, layer in leaves(model) if isinstance(layer, PositionEmbedding)]
    if not tables:
        raise NoSuchPart(f"The model {model.name!r} has no PositionEmbedding.")
    table = keras.ops.convert_to_numpy(tables[0])[0].astype("float64")
    patches = table[grid.prefix(len(table)) :]
    patches /= np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), np.finfo("float64").tiny)
    return (patches @ patches.T).reshape(2 * (grid.rows, grid.columns))
