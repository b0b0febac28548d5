"""Check the arguments of a builder against its type hints, so that a wrong value never builds a different model."""

import difflib
import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable
from typing import ParamSpec

import keras
import numpy as np

from keras_vit.models.image_facts import Statistics
from keras_vit.utils.plain import plain

P = ParamSpec("P")

_KINDS = {  # By hint: its name in messages, and a function that recognizes its values.
    bool: ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    int: ("an integer", lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))),
    str: ("a string", lambda value: isinstance(value, str)),
    type(None): ("None", lambda value: value is None),
    os.PathLike: ("a path", lambda value: isinstance(value, os.PathLike)),
    tuple: ("a tuple", lambda value: isinstance(value, (tuple, list))),
    Statistics: ("Statistics", lambda value: isinstance(value, Statistics)),
    keras.KerasTensor: ("a Keras tensor", lambda value: isinstance(value, keras.KerasTensor)),
    keras.DTypePolicy: ("a dtype policy", lambda value: isinstance(value, keras.DTypePolicy)),
}


def check_arguments(builder: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
    """Decorate a builder so that it raises an error for arguments that do not match its type hints.

    Raises:
        TypeError: The decorated builder was called with an argument of the wrong kind, as in `MobileViTV2(0.5)`, where
            0.5 would be taken for `include_top`.
        ValueError: The decorated builder was called with a value that a `Literal` does not list, such as
            `pooling="banana"`, or with fewer than one class.
    """
    signature = inspect.signature(builder)
    build: Callable[..., keras.Model] = builder

    @functools.wraps(builder)
    def checked(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        hints = _hints(builder)
        given = {name: plain(value) for name, value in bind(builder.__name__, signature, args, kwargs).items()}
        for name, value in given.items():
            _check(builder.__name__, name, value, hints[name])
        return build(**given)

    return checked


# Words of timm, Hugging Face's transformers and others for the arguments of a builder: ours, and what to pass.
_OUR_WORDS = {
    "num_classes": ("classes", "classes={0}; or include_top=False for a model without a classifier"),
    "num_labels": ("classes", "classes={0}"),
    "n_classes": ("classes", "classes={0}"),
    "nb_classes": ("classes", "classes={0}"),
    "img_size": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "image_size": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "input_size": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "in_chans": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "in_channels": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "num_channels": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "channels": ("input_shape", "input_shape=(height, width, channels), such as (224, 224, 3)"),
    "global_pool": ("pooling", "pooling={0!r}"),
    "pool": ("pooling", "pooling={0!r}"),
    "drop_rate": ("dropout_rate", "dropout_rate={0}"),
    "dropout": ("dropout_rate", "dropout_rate={0}"),
    "proj_drop_rate": ("dropout_rate", "dropout_rate={0}"),
    "hidden_dropout_prob": ("dropout_rate", "dropout_rate={0}"),
    "attn_drop_rate": ("attention_dropout_rate", "attention_dropout_rate={0}"),
    "attention_probs_dropout_prob": ("attention_dropout_rate", "attention_dropout_rate={0}"),
    "drop_path": ("drop_path_rate", "drop_path_rate={0}"),
    "pretrained": ("weights", "weights=TAG, a tag that keras_vit.list_weights prints, or a path"),
    "checkpoint_path": ("weights", "weights={0!r}"),
    "pretrained_cfg": ("weights", "weights=TAG, a tag that keras_vit.list_weights prints, or a path"),
    "embed_dim": ("width", "width={0}"),
    "hidden_size": ("width", "width={0}"),
    "dim": ("width", "width={0}"),
    "num_layers": ("depth", "depth={0}"),
    "num_hidden_layers": ("depth", "depth={0}"),
    "heads": ("num_heads", "num_heads={0}"),
    "num_attention_heads": ("num_heads", "num_heads={0}"),
    "mlp_ratio": ("mlp_dim", "mlp_dim, the width between the two layers of the MLP"),
    "intermediate_size": ("mlp_dim", "mlp_dim={0}"),
    "reg_tokens": ("num_registers", "num_registers={0}"),
    "num_register_tokens": ("num_registers", "num_registers={0}"),
    "init_values": ("layer_scale", "layer_scale={0}"),
    "activation_fn": ("activation", "activation={0!r}"),
    "hidden_act": ("activation", "activation={0!r}"),
    "act_layer": ("activation", "activation='gelu' or another activation of Keras"),
    "layer_norm_eps": ("epsilon", "epsilon={0}"),
    "img_mean": ("include_preprocessing", "include_preprocessing=keras_vit.Statistics(mean, std)"),
    "rescale": ("include_preprocessing", "include_preprocessing=True"),
}


def bind(builder: str, signature: inspect.Signature, args: tuple, kwargs: dict) -> dict:
    """Return the arguments of a builder's call by name.

    Raises:
        TypeError: An argument is unknown. The message names the builder's own word for it, or the nearest ones.
    """
    for name, value in kwargs.items():
        if name in signature.parameters:
            continue
        ours, call = _OUR_WORDS.get(name, ("", ""))
        if ours in signature.parameters:
            hint = f"Pass {call.format(plain(value))}."
        else:
            nearest = difflib.get_close_matches(name, signature.parameters, n=3, cutoff=0.5)
            hint = f"The nearest are {', '.join(nearest)}." if nearest else f"It has {', '.join(signature.parameters)}."
        raise TypeError(f"{builder} has no argument {name!r}; received {name}={value!r}. {hint}")
    return signature.bind_partial(*args, **kwargs).arguments


@functools.cache
def _hints(builder):
    return typing.get_type_hints(builder)


def _check(builder, name, value, hint):
    choices = typing.get_args(hint) if _is_union(hint) else (hint,)
    listed = [item for choice in choices if _is_literal(choice) for item in typing.get_args(choice)]
    kinds = [typing.get_origin(choice) or choice for choice in choices if not _is_literal(choice)]
    if any(_KINDS[kind][1](value) for kind in kinds) or (isinstance(value, str) and value in listed):
        if name == "classes" and value < 1:
            raise ValueError(f"{builder}: classes must be a positive integer; received {value}.")
        return
    allowed = [*map(repr, listed), *(_KINDS[kind][0] for kind in kinds)]
    words = ", ".join(allowed[:-1]) + " or " * (len(allowed) > 1) + allowed[-1]
    hint = f" Pass ({value}, {value}, 3)." if name == "input_shape" and isinstance(value, int) else ""
    message = f"{builder}: {name} must be {words}; received {value!r}.{hint}"
    raise ValueError(message) if listed and isinstance(value, str) else TypeError(message)


def _is_union(hint):
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_literal(hint):
    return typing.get_origin(hint) is typing.Literal
