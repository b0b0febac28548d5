"""What a model computes on its way: the outputs of its blocks, as sequences of tokens or as maps."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import keras

from keras_vit.graph.reading import node_of
from keras_vit.graph.rebuilding import as_functional
from keras_vit.layers import Composite, PatchEmbedding


class NoSuchPart(ValueError):
    """A model has no part of the kind that was asked for, such as a convolutional one no grid of patches."""


@dataclass(frozen=True)
class PatchGrid:
    """How a model cuts its images.

    Attributes:
        rows: Patches from top to bottom.
        columns: Patches from left to right.
        height: Of a patch, in pixels.
        width: Of a patch, in pixels.
    """

    rows: int
    columns: int
    height: int
    width: int

    def prefix(self, tokens: int) -> int:
        """How many of so many tokens stand in front of the patches: class token, registers and the like."""
        prefix = tokens - self.rows * self.columns
        if prefix < 0:
            raise NoSuchPart(f"{tokens} tokens are fewer than the {self.rows} x {self.columns} patches of the image.")
        return prefix


def patch_grid(model: keras.Model) -> PatchGrid:
    """The patches of a model that makes a token of each.

    Raises:
        NoSuchPart: The model has no `PatchEmbedding`.
    """
    model = as_functional(model)
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            rows, columns = layer.grid(node_of(model, layer).input_tensors[0].shape)
            height, width = model.inputs[0].shape[1:3]
            return PatchGrid(rows, columns, height // rows, width // columns)
    raise NoSuchPart(
        f"The model {model.name!r} has no PatchEmbedding among its layers, so it has no grid of patches to speak of."
    )


def blocks_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The blocks of a model, in order: composites of composites that give a map or the tokens of all patches."""
    return [
        layer
        for layer, _ in _maps(as_functional(model))
        if any(isinstance(part, Composite) for part in layer.parts().values())
    ]


def feature_extractor(
    model: keras.Model, blocks: str | int | Iterable[str | int] | None = None, *, layout: str = "maps"
) -> keras.Model:
    """A model that gives what blocks of another give, with that one's own weights.

    Args:
        model: A functional or sequential model of keras_vit's layers.
        blocks: None for every block; indices of blocks (from the end if negative) or names of layers, one or several;
            or "pyramid" for the last map of every stride above 1, which are named "stride_4" and so on.
        layout: "maps" for (batch, rows, columns, channels), where a sequence loses the tokens in front of the patches;
            "tokens" for (batch, tokens, channels), where a map is read row by row and a sequence is left as it is.

    Returns:
        A functional model from images to a dictionary by name of the block. It shares its layers with `model`, so
        training one trains the other.

    Raises:
        NoSuchPart: The model has no blocks, or a sequence of tokens and no `PatchEmbedding`.
        ValueError: There is no such block, or its output is neither a sequence nor a map.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout is one of {sorted(_LAYOUTS)}; received {layout!r}.")
    model = as_functional(model)
    if blocks == "pyramid":
        tensors = _pyramid(model)
    else:
        tensors = {layer.name: _feature(model, layer) for layer in _chosen(model, blocks)}
    outputs = {name: _LAYOUTS[layout](model, name, tensor) for name, tensor in tensors.items()}
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def _chosen(model, blocks):
    known = blocks_of(model)
    if not known and (blocks is None or isinstance(blocks, int)):
        raise NoSuchPart(
            f"The model {model.name!r} has no composite blocks (flattening and fusing open them); name its layers."
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
    """The output of a layer; of several, as where maps and tokens run side by side, the map."""
    outputs = node_of(model, layer).output_tensors
    return next((tensor for tensor in outputs if len(tensor.shape) == 4), outputs[0])


def _maps(model):
    """The composite layers of a model whose output has a place in the image, each with that output."""
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
    last = {}
    stride, rows = 1, model.inputs[0].shape[1]
    for _, tensor in _maps(model):
        # A stride is a product of whole steps, even where an odd map is halved and its half rounded up.
        now = tensor.shape[1] if len(tensor.shape) == 4 else patch_grid(model).rows
        stride = stride * round(rows / now) if now <= rows else stride // round(now / rows)
        rows = now
        last[stride] = tensor
    pyramid = {f"stride_{stride}": last[stride] for stride in sorted(last) if stride > 1}
    if not pyramid:
        raise NoSuchPart(
            f"The model {model.name!r} has no composite layers that give a smaller map (flattening and fusing open "
            "them), so there is no pyramid to be seen."
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
            f"{name!r} gives {tuple(tensor.shape)}, which is neither a sequence (batch, tokens, channels) nor a map "
            "(batch, rows, columns, channels)."
        )
    return tensor


_LAYOUTS = {"maps": _as_map, "tokens": _as_tokens}
