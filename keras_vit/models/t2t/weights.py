"""The names that published files use for the arrays of T2T-ViT.

The keys are names of leaf layers in `keras_vit.flatten`, or of one weight of a layer, after a slash; the values are
their names in the file. {i} is the block's number.
"""

import numpy as np

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_OURS, _THEIRS = "tokens_to_token.projection", "tokens_to_token"


def _by_pixel(side):
    """Return a function that orders the inputs of a layer by pixel, and then by channel.

    PyTorch's unfold orders the numbers of a patch by channel, and then by pixel.

    Args:
        side: Side of a patch in pixels.
    """

    def ordered(array):
        inputs = array.shape[-1]
        if inputs % side**2:
            return array
        by_channel = array.reshape(*array.shape[:-1], inputs // side**2, side**2)
        return np.ascontiguousarray(by_channel.swapaxes(-1, -2)).reshape(array.shape)

    return ordered


def _of_kernel(name, index, side, bias=False):
    """Return the keys (0) or queries (1) of the performer's projection, in Keras' layout."""

    def take(array):
        rows = np.split(array, 3)[index] if len(array) % 3 == 0 else array
        return rows if bias else _by_pixel(side)(rows).T

    return Part(f"{name}.{'bias' if bias else 'weight'}", take, is_array=True)


def _tokens(number, side):
    """Return the names of the attention with this number, whose input comes from patches with this side."""
    ours, theirs = f"{_OURS}.attention{number}", f"{_THEIRS}.attention{number}"
    ordered = _by_pixel(side)
    return {
        f"{ours}.norm1": Part(f"{theirs}.norm1", ordered),
        f"{ours}.norm2": f"{theirs}.norm2",
        f"{ours}.projection": f"{theirs}.proj",
    }


def _performer(number, side):
    ours, theirs = f"{_OURS}.attention{number}", f"{_THEIRS}.attention{number}"
    values = third(f"{theirs}.kqv", 2)
    return {
        **_tokens(number, side),
        f"{ours}.attention/key_kernel": _of_kernel(f"{theirs}.kqv", 0, side),
        f"{ours}.attention/key_bias": _of_kernel(f"{theirs}.kqv", 0, side, bias=True),
        f"{ours}.attention/query_kernel": _of_kernel(f"{theirs}.kqv", 1, side),
        f"{ours}.attention/query_bias": _of_kernel(f"{theirs}.kqv", 1, side, bias=True),
        f"{ours}.attention/random_matrix": Part(f"{theirs}.w", is_array=True),
        f"{ours}.value/kernel": Part(values.name, lambda array: _by_pixel(side)(values.take(array))),
        f"{ours}.value/bias": values,
        f"{ours}.projection": f"{theirs}.proj",
        f"{ours}.mlp.expand": f"{theirs}.mlp.0",
        f"{ours}.mlp.contract": f"{theirs}.mlp.2",
    }


def _transformer(number, side):
    ours, theirs = f"{_OURS}.attention{number}", f"{_THEIRS}.attention{number}"

    def part(index):
        whole = third(f"{theirs}.attn.qkv", index)
        return Part(whole.name, lambda array: _by_pixel(side)(whole.take(array)))

    return {
        **_tokens(number, side),
        **{f"{ours}.{kind}": part(index) for index, kind in enumerate(("query", "key", "value"))},
        f"{ours}.projection": f"{theirs}.attn.proj",
        f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
        f"{ours}.mlp.contract": f"{theirs}.mlp.fc2",
    }


def _authors(names):
    return Naming(
        "T2T-ViT",
        PYTORCH,
        {
            **names(1, 7),
            **names(2, 3),
            f"{_OURS}.project": Part(
                f"{_THEIRS}.project", lambda array: _by_pixel(3)(array) if array.ndim > 1 else array
            ),
            "class_token": "cls_token",
            "position_embedding": "pos_embed",
            "block_{i}.norm1": "blocks.{i}.norm1",
            "block_{i}.norm2": "blocks.{i}.norm2",
            "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
            "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
            "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
            "block_{i}.attention.projection": "blocks.{i}.attn.proj",
            "block_{i}.mlp.expand": "blocks.{i}.mlp.fc1",
            "block_{i}.mlp.contract": "blocks.{i}.mlp.fc2",
            "norm": "norm",
            "head": "head",
        },
    )


NAMINGS = (_authors(_performer), _authors(_transformer))
