"""Check the arguments of a builder against its type hints, so that a wrong value never builds a different model."""

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

    @functools.wraps(builder)
    def checked(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        hints = _hints(builder)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            _check(builder.__name__, name, value, hints[name])
        return builder(*args, **kwargs)

    return checked


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
    message = f"{builder}: {name} must be {words}; received {value!r}."
    raise ValueError(message) if listed and isinstance(value, str) else TypeError(message)


def _is_union(hint):
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_literal(hint):
    return typing.get_origin(hint) is typing.Literal
