"""The names that published files use for the arrays of iGPT: those of transformers, and the authors' own.

Neither contains the colors. A file to which they were added has them as "colors".
"""

import re

import numpy as np

from keras_vit.weights.layouts import Layout
from keras_vit.weights.naming import Naming, Part

# Dense kernels are (inputs, outputs) in both, as in Keras.
_AS_IN_KERAS = Layout(".", {}, lambda array, layer, weight: array)
_COLORS = Part("colors", is_array=True)


def _array(name, take=lambda array: array):
    return Part(name, take, is_array=True)


def _third(name, index):
    """Return one of three kernels that a file stacks along the outputs."""
    return _array(name, lambda array: np.split(array, 3, axis=-1)[index])


# What transformers adds to the authors' layers: a table of zeros and ones, a number, and biases, which are zero.
_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_BIASES = re.compile(r"h\.\d+\.(attn|mlp)\.c_\w+\.bias")


def _without_prefix_and_constants(arrays):
    arrays = {name.removeprefix("transformer."): array for name, array in arrays.items()}
    return {
        name: array
        for name, array in arrays.items()
        if not _MASKS.fullmatch(name) and not (_BIASES.fullmatch(name) and not np.any(array))
    }


HUGGING_FACE = Naming(
    "Hugging Face",
    _AS_IN_KERAS,
    {
        "colors": _COLORS,
        # The last row is the start token.
        "color_embedding": _array("wte.weight", lambda array: array[:-1]),
        "start_token": _array("wte.weight", lambda array: array[None, -1:]),
        "position_embedding": _array("wpe.weight", lambda array: array[None]),
        "block_{i}.norm1": _array("h.{i}.ln_1.weight"),
        "block_{i}.attention.query": _third("h.{i}.attn.c_attn.weight", 0),
        "block_{i}.attention.key": _third("h.{i}.attn.c_attn.weight", 1),
        "block_{i}.attention.value": _third("h.{i}.attn.c_attn.weight", 2),
        "block_{i}.attention.projection": _array("h.{i}.attn.c_proj.weight"),
        "block_{i}.norm2": _array("h.{i}.ln_2.weight"),
        "block_{i}.mlp.expand": _array("h.{i}.mlp.c_fc.weight"),
        "block_{i}.mlp.contract": _array("h.{i}.mlp.c_proj.weight"),
        "norm": _array("ln_f.weight"),
        "color_head": _array("lm_head.weight", np.transpose),
        "head/kernel": _array("score.weight", np.transpose),
        "head/bias": _array("score.bias"),
    },
    may_be_missing=("colors",),
    may_be_unused=("lm_head.",),
    respell=_without_prefix_and_constants,
)


def _heads_first(array):
    """Return a kernel (heads, head dim, width) as (width, heads * head dim)."""
    return array.reshape(-1, array.shape[-1]).T


AUTHORS = Naming(
    "OpenAI",
    _AS_IN_KERAS,
    {
        "colors": _COLORS,
        "color_embedding": _array("wte"),
        "start_token": _array("sos", lambda array: array[None, None]),
        "position_embedding": _array("wpe", lambda array: array[None]),
        "block_{i}.norm1": _array("h{i}/ln_1/g"),
        "block_{i}.attention.query": _array("h{i}/attn/q_proj", _heads_first),
        "block_{i}.attention.key": _array("h{i}/attn/k_proj", _heads_first),
        "block_{i}.attention.value": _array("h{i}/attn/v_proj", _heads_first),
        "block_{i}.attention.projection": _array("h{i}/attn/c_proj", lambda array: array.reshape(-1, array.shape[-1])),
        "block_{i}.norm2": _array("h{i}/ln_2/g"),
        "block_{i}.mlp.expand": _array("h{i}/mlp/c_fc/w"),
        "block_{i}.mlp.contract": _array("h{i}/mlp/c_proj/w"),
        "norm": _array("ln_f/g"),
        "color_head": _array("wtet", np.transpose),
        "head/kernel": _array("clf/wclf", np.transpose),
        "head/bias": _array("clf/bias"),
    },
    may_be_missing=("colors",),
    may_be_unused=("wtet",),
    respell=lambda arrays: {name.removeprefix("model/"): array for name, array in arrays.items()},
)

NAMINGS = (HUGGING_FACE, AUTHORS)
