"""Where a model looks: its attention probabilities, and what the papers read from them."""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_vit.graph.flattening import flatten, leaves
from keras_vit.graph.reading import inputs_of, producer
from keras_vit.inspection.features import NoSuchPart, PatchGrid, patch_grid
from keras_vit.layers import MatMul, PositionEmbedding


def attention_maps(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> dict[str, np.ndarray]:
    """The softmax probabilities of every attention of a model.

    Args:
        model: A functional or sequential model of keras_vit's layers, or one that was flattened, fused or quantized.
        images: (images, height, width, channels), as the model takes them.
        batch_size: Images computed at once.

    Returns:
        By name of the block, in the model's order: (images, heads, queries, keys), float32; each row sums to 1. Where a
        block has several attentions, the names say which.

    Raises:
        NoSuchPart: The model has no attention with a softmax.
        ValueError: It takes images of another shape.
    """
    flat = flatten(model)
    expected = tuple(flat.inputs[0].shape[1:])
    if np.ndim(images) != 4 or tuple(np.shape(images)[1:]) != expected:
        raise ValueError(
            f"The model {model.name!r} takes images (images, {', '.join(map(str, expected))}); "
            f"received the shape {np.shape(images)}."
        )
    softmaxes = [layer for layer in flat.layers if _is_softmax(layer) and _comes_from_a_product(layer)]
    if not softmaxes:
        raise NoSuchPart(f"The model {model.name!r} has no attention with a softmax, so there are no maps of it.")
    names = _shortest_names([layer.name for layer in softmaxes])
    probabilities = keras.Model(flat.input, {name: layer.output for name, layer in zip(names, softmaxes, strict=True)})
    # Called as it is: for a few images that is faster than `predict`, which first compiles a function.
    batches = [
        {
            name: keras.ops.convert_to_numpy(keras.ops.cast(array, "float32"))
            for name, array in probabilities(images[start : start + batch_size], training=False).items()
        }
        for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


def _is_softmax(layer):
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )


def _comes_from_a_product(layer):
    """Whether scores of queries and keys go into a softmax, as they are or after layers that keep their shape."""
    shape = layer.output.shape
    waiting = [layer]
    while waiting:
        before = [producer(tensor) for tensor in inputs_of(waiting.pop()) if tensor.shape == shape]
        if any(isinstance(operation, MatMul) for operation in before):
            return len(shape) == 4
        waiting += before
    return False


def _shortest_names(paths: list[str]) -> list[str]:
    """Of each path "block_0.attention.softmax" as many steps as tell it from the others."""

    def steps(path, count):
        return ".".join(path.split(".")[:count])

    names = []
    for path in paths:
        counts = range(1, path.count(".") + 2)
        names.append(steps(path, next(n for n in counts if sum(steps(p, n) == steps(path, n) for p in paths) == 1)))
    return names


def attention_rollout(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> np.ndarray:
    """How much of each patch reaches the output through all blocks (Abnar and Zuidema, arXiv 2005.00928, section 3).

    Args:
        model: As `attention_maps` takes, with a `PatchEmbedding`.
        images: (images, height, width, channels), as the model takes them.
        batch_size: Images computed at once.

    Returns:
        (images, rows, columns): the share of each patch, see `gathered`. With a class token, it has a share as well.

    Raises:
        NoSuchPart: The model has no attention with a softmax, no `PatchEmbedding`, or no single sequence of tokens.
    """
    grid = patch_grid(model)
    return rollout(attention_maps(model, images, batch_size=batch_size).values(), grid)


def rollout(attention: Iterable[np.ndarray], grid: PatchGrid) -> np.ndarray:
    """Attention rollout of given probabilities.

    Each block's attention, the mean of its heads, is averaged with the identity, for its residual connection; the
    blocks' are then multiplied. An attention with other queries than the tokens, such as the pooling of a MAP head,
    has no residual connection to the tokens and is multiplied as it is.

    Args:
        attention: (images, heads, queries, keys) of each block, from the first to the last.
        grid: The patches, which are the last tokens.

    Returns:
        (images, rows, columns), see `attention_rollout`.
    """
    flow = None
    for probabilities in attention:
        mean = probabilities.mean(axis=1, dtype="float64")
        queries, keys = mean.shape[1:]
        if queries == keys:
            mean = 0.5 * mean + 0.5 * np.eye(keys)
            mean /= mean.sum(axis=-1, keepdims=True)
        if flow is not None and flow.shape[1] != keys:
            raise NoSuchPart(
                f"Rollout follows one sequence of tokens through the blocks; a block with {keys} keys comes after one "
                f"with {flow.shape[1]} tokens."
            )
        flow = mean if flow is None else mean @ flow
    return gathered(flow, grid)


def gathered(attention: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """What the class token takes from each patch, or if no token stands before the patches, the mean of all queries.

    Args:
        attention: (..., queries, keys).
        grid: The patches, which are the last keys.

    Returns:
        (..., rows, columns)
    """
    prefix = grid.prefix(attention.shape[-1])
    taken = attention[..., 0, :] if prefix else attention.mean(axis=-2)
    return taken[..., prefix:].reshape(*attention.shape[:-2], grid.rows, grid.columns)


def attention_distance(model: keras.Model, images: np.ndarray, *, batch_size: int = 8) -> dict[str, np.ndarray]:
    """How far each head looks (Dosovitskiy et al., arXiv 2010.11929, appendix D.7 and figure 7).

    Args:
        model: As `attention_maps` takes, with a `PatchEmbedding`.
        images: (images, height, width, channels), as the model takes them. The paper averages over 128.
        batch_size: Images computed at once.

    Returns:
        By name of the block: (heads,), in pixels, the mean over images and patches.

    Raises:
        NoSuchPart: The model has no attention with a softmax or no `PatchEmbedding`.
    """
    grid = patch_grid(model)
    return mean_distances(attention_maps(model, images, batch_size=batch_size), grid)


def mean_distances(attention: Mapping[str, np.ndarray], grid: PatchGrid) -> dict[str, np.ndarray]:
    """Mean attention distances of given probabilities.

    Only what patches give to patches counts: other tokens have no place in the image, so they are left out and the rest
    of a row is scaled to sum to 1.

    Args:
        attention: By name of the block: (images, heads, queries, keys). Those that do not attend from each token to
            each, such as the pooling of a MAP head, are left out.
        grid: The patches, which are the last tokens.

    Returns:
        By name of the block: (heads,), in pixels.
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
            seen = np.maximum(patches.sum(axis=-1), np.finfo("float64").tiny)
            result[name] = ((patches * distance).sum(axis=-1) / seen).mean(axis=(0, 2))
    return result


def position_similarity(model: keras.Model) -> np.ndarray:
    """Cosine similarity of the patches' position embeddings (Dosovitskiy et al., arXiv 2010.11929, figure 7, centre).

    Returns:
        (rows, columns, rows, columns), in [-1, 1]: of the patch at the first two to that at the last two.

    Raises:
        NoSuchPart: The model has no table of positions or no `PatchEmbedding`.
    """
    grid = patch_grid(model)
    tables = [layer.table for _, layer in leaves(model) if isinstance(layer, PositionEmbedding)]
    if not tables:
        raise NoSuchPart(f"The model {model.name!r} has no PositionEmbedding, so there are no positions to compare.")
    table = keras.ops.convert_to_numpy(tables[0])[0].astype("float64")
    patches = table[grid.prefix(len(table)) :]
    patches /= np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), np.finfo("float64").tiny)
    return (patches @ patches.T).reshape(2 * (grid.rows, grid.columns))
