"""Features of a model: the outputs of its blocks, as sequences of tokens or as maps."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import keras

from keras_vit.graph.inner_models import without_inner_models
from keras_vit.graph.reading import node_of
from keras_vit.layers import Composite, PatchEmbedding
from keras_vit.utils.plain import plain


class NoSuchPart(ValueError):
    """The model has no part of the requested kind, such as a grid of patches in a convolutional network."""


@dataclass(frozen=True)
class PatchGrid:
    """How a model divides its images into patches.

    Attributes:
        rows: Number of patches from top to bottom.
        columns: Number of patches from left to right.
        height: Height of a patch in pixels.
        width: Width of a patch in pixels.
    """

    rows: int
    columns: int
    height: int
    width: int

    def prefix(self, tokens: int) -> int:
        """Return how many of the tokens come before the patches, such as a class token and registers.

        Raises:
            NoSuchPart: If there are fewer tokens than patches.
        """
        prefix = tokens - self.rows * self.columns
        if prefix < 0:
            raise NoSuchPart(f"{tokens} tokens are fewer than the {self.rows} x {self.columns} patches of the image.")
        return prefix


def patch_grid(model: keras.Model) -> PatchGrid:
    """Return the grid of patches of a model with a `PatchEmbedding`.

    Raises:
        NoSuchPart: If the model has no `PatchEmbedding`.
    """
    model = without_inner_models(model)
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            rows, columns = layer.grid(node_of(model, layer).input_tensors[0].shape)
            height, width = model.inputs[0].shape[1:3]
            return PatchGrid(rows, columns, height // rows, width // columns)
    raise NoSuchPart(f"The model {model.name!r} has no PatchEmbedding among its layers, so it has no grid of patches.")


def blocks_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the blocks of a model in order.

    A block is a composite layer that contains composite layers and whose output is a map or the tokens of all patches.
    The patch embedding is no block, even if it has several convolutions.
    """
    return [
        layer
        for layer, _ in _spatial_layers(without_inner_models(model))
        if any(isinstance(part, Composite) for part in layer.parts().values()) and not isinstance(layer, PatchEmbedding)
    ]


def feature_extractor(
    model: keras.Model, blocks: str | int | Iterable[str | int] | None = None, *, layout: str = "maps"
) -> keras.Model:
    """Return a model that outputs the features of some blocks of another model.

    Args:
        model: A functional or sequential model of an image built from the layers of keras_vit, or one that contains
            such a model.
        blocks: Which features to output. None for every block; an index of a block (negative indices count from the
            end) or the name of a layer; a list of these; or "pyramid" for the last map of every stride above 1, under
            the names "stride_2", "stride_4" and so on.
        layout: "maps" for outputs of shape `(batch, rows, columns, channels)`, without the tokens that come before the
            patches; "tokens" for outputs of shape `(batch, tokens, width)`, where maps are flattened row by row.

    Returns:
        A functional model from images to a dictionary of features by the name of the block. It shares its layers, and
        so its weights, with `model`.

    Raises:
        NoSuchPart: If the model has no blocks, or if a sequence of tokens has to become a map and the model has no
            `PatchEmbedding`.
        TypeError: If the model is neither functional nor sequential.
        ValueError: If there is no such block, its output is neither a sequence nor a map, or the block is called more
            than once.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout must be one of {sorted(_LAYOUTS)}; received {layout!r}.")
    model = without_inner_models(model)
    if blocks == "pyramid":
        tensors = _pyramid(model)
    else:
        tensors = {layer.name: _feature(model, layer) for layer in _choose_layers(model, blocks)}
    outputs = {name: _LAYOUTS[layout](model, name, tensor) for name, tensor in tensors.items()}
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def _choose_layers(model, blocks):
    known, blocks = blocks_of(model), plain(blocks)
    if not known and (blocks is None or isinstance(blocks, int)):
        raise NoSuchPart(
            f"The model {model.name!r} has no composite blocks, because it was flattened or fused or is of another "
            "kind. Pass names of layers."
        )
    if blocks is None:
        return known
    return [_block(model, known, block) for block in ([blocks] if isinstance(blocks, (str, int)) else blocks)]


def _block(model, known, block):
    if isinstance(block, int):
        if not -len(known) <= block < len(known):
            raise ValueError(f"The model {model.name!r} has the blocks 0 to {len(known) - 1}; received {block}.")
        return known[block]
    layers = {layer.name: layer for layer in model.layers}
    if block not in layers:
        near = difflib.get_close_matches(str(block), layers, n=3, cutoff=0.4)
        hint = f"The nearest are {', '.join(near)}." if near else f"Its layers are {', '.join(layers)}."
        raise ValueError(f"The model {model.name!r} has no layer {block!r}. {hint}")
    return layers[block]


def _feature(model, layer):
    """Return the output of a layer, and the map where a layer outputs a map and tokens."""
    outputs = node_of(model, layer).output_tensors
    return next((tensor for tensor in outputs if len(tensor.shape) == 4), outputs[0])


def _spatial_layers(model):
    """Yield the composite layers whose output has positions in the image, each with that output."""
    try:
        patches = patch_grid(model)
    except NoSuchPart:
        patches = None
    for layer in model.layers:
        if isinstance(layer, Composite):
            tensor = _feature(model, layer)
            rank = len(tensor.shape)
            if rank == 4 or (rank == 3 and patches and tensor.shape[1] >= patches.rows * patches.columns):
                yield layer, tensor


def _pyramid(model):
    """Return the last spatial output of every stride above 1, by name."""
    last = {}
    stride, rows = 1, model.inputs[0].shape[1]
    for _, tensor in _spatial_layers(model):
        # Strides are products of integers, even where halving an odd number of rows rounds up.
        new_rows = tensor.shape[1] if len(tensor.shape) == 4 else patch_grid(model).rows
        stride = stride * round(rows / new_rows) if new_rows <= rows else stride // round(new_rows / rows)
        rows = new_rows
        last[stride] = tensor
    pyramid = {f"stride_{stride}": last[stride] for stride in sorted(last) if stride > 1}
    if not pyramid:
        raise NoSuchPart(
            f"The model {model.name!r} has no composite layers that output a smaller map than the image, because it "
            "was flattened or fused or is of another kind."
        )
    return pyramid


def _as_map(model, name, tensor):
    if len(tensor.shape) == 4:
        return tensor
    grid = patch_grid(model)
    prefix = grid.prefix(_sequence(name, tensor).shape[1])
    if prefix:
        tensor = keras.layers.Cropping1D((prefix, 0), name=f"{name}_patches")(tensor)
    return keras.layers.Reshape((grid.rows, grid.columns, tensor.shape[2]), name=f"{name}_map")(tensor)


def _as_tokens(model, name, tensor):
    if len(tensor.shape) == 4:
        rows, columns, channels = tensor.shape[1:]
        return keras.layers.Reshape((rows * columns, channels), name=f"{name}_tokens")(tensor)
    return _sequence(name, tensor)


def _sequence(name, tensor):
    if len(tensor.shape) != 3:
        raise ValueError(
            f"The output of {name!r} has the shape {tuple(tensor.shape)}, which is neither that of a sequence (batch, "
            "tokens, width) nor that of a map (batch, rows, columns, channels)."
        )
    return tensor


_LAYOUTS = {"maps": _as_map, "tokens": _as_tokens}
