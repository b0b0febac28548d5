"""Every model by name: what `list_models`, `create_model` and `model_info` know."""

import difflib
import fnmatch
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_vit.preprocessing import Statistics


@dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: Registry name, such as "vit_b16".
        function: The public function that builds it, such as `keras_vit.ViT_B16`.
        family: Name of the family's general builder, such as "ViT".
        image_size: (height, width) in pixels the paper uses.
        paper: Where it was published, with the table.
        licence: Licence of the reference code.
        statistics: Of the images it was trained on.
    """

    name: str
    function: Callable[..., keras.Model]
    family: str
    image_size: tuple[int, int]
    paper: str
    licence: str
    statistics: Statistics


_variants: dict[str, Variant] = {}


def register_variant(
    builder: Callable[..., keras.Model], function_name: str, name: str, settings: dict, **facts
) -> Callable[..., keras.Model]:
    """Makes the public function of a variant from its family's builder, and enters it in the registry.

    Args:
        builder: The family's builder, with keras.applications' arguments.
        function_name: Name of the function, such as "ViT_B16".
        name: Registry name, such as "vit_b16".
        settings: The builder's keyword-only arguments that make this variant. A caller may still override them.
        facts: The other fields of `Variant`, and `summary`, one line for the docstring.
    """
    signature = inspect.signature(builder)
    parameters = [
        parameter.replace(
            default={"name": name, **settings}.get(parameter.name, parameter.default),
        )
        for parameter in signature.parameters.values()
    ]

    @functools.wraps(builder)
    def build(*args, **kwargs):
        bound = signature.bind_partial(*args, **kwargs)
        return builder(**{"name": name, **settings, **bound.arguments})

    summary = facts.pop("summary")
    build.__name__ = build.__qualname__ = function_name
    build.__signature__ = signature.replace(parameters=parameters)
    build.__doc__ = f"{summary}\n\n    Takes the arguments of `{builder.__name__}`, which describes them."
    _variants[name] = Variant(name=name, function=build, family=builder.__name__, **facts)
    return build


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a pattern such as "vit_b*", sorted."""
    return sorted(fnmatch.filter(_variants, pattern))


def create_model(name: str, **kwargs) -> keras.Model:
    """Builds a model by its registry name.

    Args:
        name: One of `list_models()`.
        kwargs: Arguments of the model's function, such as `classes`, `input_shape` and `weights`.
    """
    return variant(name).function(**kwargs)


def variant(name: str) -> Variant:
    """The registry's entry for a name; a ValueError that gives the nearest names for any other."""
    if name not in _variants:
        near = difflib.get_close_matches(str(name).lower(), _variants, n=3, cutoff=0.4)
        hint = f"The nearest are {', '.join(near)}." if near else "keras_vit.list_models() gives all."
        raise ValueError(f"There is no model named {name!r}. {hint}")
    return _variants[name]
