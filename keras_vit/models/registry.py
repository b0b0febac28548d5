"""Every model by name: what `list_models`, `create_model` and `model_info` know."""

import difflib
import fnmatch
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_vit.models.images import Statistics
from keras_vit.weights.catalog import PublishedWeights, find_weights, grants_commercial_use, weights_of
from keras_vit.weights.hub import fetch
from keras_vit.weights.load import load_weights


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
        crop_fraction: Share of the resized image's side that evaluation keeps.
        interpolation: Of that resizing: "bicubic" or "bilinear".
    """

    name: str
    function: Callable[..., keras.Model]
    family: str
    image_size: tuple[int, int]
    paper: str
    licence: str
    statistics: Statistics
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"


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
        given = signature.bind_partial(*args, **kwargs).arguments
        weights = given.get("weights")
        if weights is None or os.path.isfile(weights):
            return builder(**{"name": name, **settings, **given})
        return _build_published(builder, settings, find_weights(name, weights), given)

    summary = facts.pop("summary")
    build.__name__ = build.__qualname__ = function_name
    build.__signature__ = signature.replace(parameters=parameters)
    build.__doc__ = f"""{summary}

    Takes the arguments of `{builder.__name__}`, which describes them. `weights` also takes a tag that
    `keras_vit.list_weights({name!r})` lists. `input_shape`, `classes` and the statistics of `include_preprocessing`
    are then the checkpoint's unless given, and so is the model's name, {name!r}, a dot and the tag. Another number of
    `classes` gets a new classifier."""
    _variants[name] = Variant(name=name, function=build, family=builder.__name__, **facts)
    return build


def _build_published(builder, settings, record: PublishedWeights, given: dict) -> keras.Model:
    """The model of a checkpoint. The file is fetched first: without it no model is built."""
    arguments = {"name": f"{record.model}.{record.tag}", **settings, **given, "weights": None}
    if given.get("input_shape") is None:
        arguments["input_shape"] = (*record.image_size, 3)
    if arguments.get("include_preprocessing") is True:
        arguments["include_preprocessing"] = record.statistics
    with_head = arguments.get("include_top", True)
    if with_head:
        if record.classes is None and "classes" not in given:
            raise ValueError(
                f"The weights {record.tag!r} of {record.model!r} have no classifier: give classes for a new one, or "
                "include_top=False."
            )
        arguments.setdefault("classes", record.classes)
    path = fetch(record)
    model = builder(**arguments)
    load_weights(model, path, head=not with_head or arguments["classes"] == record.classes)
    return model


def list_models(pattern: str = "*", *, commercial: bool = False) -> list[str]:
    """Names of the models that match a pattern such as "vit_b*", sorted.

    Args:
        pattern: With the wildcards of a shell.
        commercial: Whether to leave out a model when neither its reference code nor any of its published weights has a
            licence that plainly allows commercial use. It is no legal advice.
    """

    def allowed(name):
        licences = {_variants[name].licence, *(record.licence for record in weights_of(name))}
        return any(map(grants_commercial_use, licences))

    return sorted(name for name in fnmatch.filter(_variants, pattern) if allowed(name) or not commercial)


def list_weights(name: str) -> list[PublishedWeights]:
    """The published checkpoints of a model, by its registry name; `weights=` takes their tags."""
    return weights_of(variant(name).name)


def download_weights(name: str, tag: str, *, again: bool = False) -> str:
    """Fetches a published checkpoint without building its model, as for a machine that will have no network.

    Args:
        name: Registry name of the model.
        tag: One that `list_weights` lists.
        again: Whether to fetch it although it is in the cache, as when that file is corrupt.

    Returns:
        The path of the file; `keras_vit.weights.hub` says where files lie.

    Raises:
        ConnectionError: It can't be fetched.
        ValueError: There is no such model or tag, or what arrived is no safetensors file.
    """
    return fetch(find_weights(variant(name).name, tag), again=again)


def families() -> list[str]:
    """Names of the families' general builders, which are functions of `keras_vit`, sorted."""
    return sorted({known.family for known in _variants.values()})


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
