"""The registry of all models by name. Keras is imported only when a model is built."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_vit.models.families import families, module_of
from keras_vit.models.family import Variant
from keras_vit.weights.hub import fetch
from keras_vit.weights.published import PublishedWeights, grants_commercial_use

if TYPE_CHECKING:
    import keras


def list_models(pattern: str = "*", *, commercial: bool = False) -> list[str]:
    """Return the names of the models that match a pattern, sorted.

    Args:
        pattern: Pattern with the wildcards of a shell, such as "vit_b*".
        commercial: Whether to list only models whose reference code or some published weights have a license that
            plainly allows commercial use. This is not legal advice.
    """

    def is_allowed(name):
        licenses = {_variants()[name].license, *(record.license for record in list_weights(name))}
        return any(map(grants_commercial_use, licenses))

    return sorted(name for name in fnmatch.filter(_variants(), pattern) if is_allowed(name) or not commercial)


def list_weights(name: str) -> list[PublishedWeights]:
    """Return the published checkpoints of a model. Pass their tags as `weights` to the model's function.

    Args:
        name: Registry name of the model.

    Raises:
        ValueError: There is no such model.
    """
    variant(name)
    return [record for family in families().values() for record in family.weights if record.model == name]


def find_weights(name: str, tag: str) -> PublishedWeights:
    """Return the checkpoint of a model with a tag.

    Raises:
        ValueError: There is no such model or tag. The message names the closest ones.
    """
    records = {record.tag: record for record in list_weights(name)}
    if tag in records:
        return records[tag]
    if not records:
        raise ValueError(f"No weights are published for {name!r}: pass None or the path of a file; received {tag!r}.")
    nearest = difflib.get_close_matches(str(tag).lower(), records, n=3, cutoff=0.4) or list(records)
    raise ValueError(
        f"{tag!r} is neither a file nor weights of {name!r}. The nearest are {', '.join(nearest)}; "
        f"keras_vit.list_weights({name!r}) lists all."
    )


def download_weights(name: str, tag: str, *, again: bool = False) -> str:
    """Download a published checkpoint without building its model, for example to copy it to an offline machine.

    Args:
        name: Registry name of the model.
        tag: Tag of the checkpoint, from `list_weights`.
        again: Whether to download the file even if it is in the cache, for example because that file is corrupt.

    Returns:
        The path of the file. `keras_vit.weights.hub` describes where files are stored.

    Raises:
        ConnectionError: The download failed.
        ValueError: There is no such model or tag, the file is not a safetensors file, or `again` is true and the file
            was put in place by hand.
    """
    return fetch(find_weights(name, tag), again=again)


def create_model(name: str, **kwargs) -> keras.Model:
    """Build a model by its registry name.

    Args:
        name: One of `list_models()`.
        kwargs: Arguments of the model's function, such as `classes`, `input_shape` and `weights`.

    Raises:
        ValueError: There is no such model. The message names the closest ones.
    """
    return public_functions()[variant(name).function_name]()(**kwargs)


def variant(name: str) -> Variant:
    """Return the variant with a registry name.

    Raises:
        ValueError: There is no such model. The message names the closest ones.
    """
    if name not in _variants():
        nearest = difflib.get_close_matches(str(name).lower(), _variants(), n=3, cutoff=0.4)
        hint = f"The nearest are {', '.join(nearest)}." if nearest else "keras_vit.list_models() lists all."
        raise ValueError(f"There is no model named {name!r}. {hint}")
    return _variants()[name]


def builders() -> list[str]:
    """Return the names of the families' general builders, sorted. They are functions of `keras_vit`."""
    return sorted({known.builder for known in _variants().values()})


@functools.cache
def public_functions() -> dict[str, Callable[[], Callable]]:
    """Return a loader for each public function of the families, by name. Loading one imports Keras and the family."""
    loaders: dict[str, Callable[[], Callable]] = {}
    for folder, family in families().items():
        for name, module in family.functions.items():
            loaders[name] = functools.partial(_function, folder, module, name)
        for known in family.variants:
            loaders[known.function_name] = functools.partial(_variant_function, folder, known.name)
    return loaders


@functools.cache
def _variants() -> dict[str, Variant]:
    return {known.name: known for family in families().values() for known in family.variants}


def _function(folder, module, name):
    return getattr(module_of(folder, module), name)


@functools.cache
def _variant_function(folder, name) -> Callable[..., keras.Model]:
    """Return the public function of a variant, made from its family's builder."""
    known = variant(name)
    builder = _function(folder, families()[folder].functions[known.builder], known.builder)
    signature = inspect.signature(builder)
    defaults = {"name": name, **known.settings}

    @functools.wraps(builder)
    def build(*args, **kwargs):
        from keras_vit.models.arguments import bind
        from keras_vit.models.builder import set_image_facts

        given = bind(known.function_name, signature, args, kwargs)
        weights = given.get("weights")
        if weights is None or not isinstance(weights, str) or _is_path(name, weights):
            model = builder(**{**defaults, **given})
            return set_image_facts(model, known.image_facts)
        record = find_weights(name, weights)
        return set_image_facts(_build_published(builder, known, record, given), record.image_facts)

    build.__name__ = build.__qualname__ = known.function_name
    build.__module__ = "keras_vit"
    parameters = [
        parameter.replace(default=defaults.get(parameter.name, parameter.default))
        for parameter in signature.parameters.values()
    ]
    vars(build)["__signature__"] = signature.replace(parameters=parameters)
    build.__doc__ = f"""Build {known.summary}

    The arguments are those of `{known.builder}`, which describes them. `weights` also takes a tag from
    `keras_vit.list_weights({name!r})`. In that case, `input_shape`, `classes` and the statistics of
    `include_preprocessing` default to those of the checkpoint, and the model's name to {name!r}, a dot and the tag.
    With a different number of `classes`, the model gets a new classifier.

    Source: {known.paper}."""
    return build


def _is_path(name, weights):
    """Whether weights are a file, or a folder that does not happen to have the name of a tag."""
    tags = [record.tag for record in list_weights(name)]
    return os.path.isfile(weights) or (os.path.isdir(weights) and weights not in tags)


def _build_published(builder, known: Variant, record: PublishedWeights, given: dict) -> keras.Model:
    """Build a model and load a checkpoint. A failed download raises an error before the model is built."""
    from keras_vit.weights.load import load_weights

    arguments = {"name": f"{record.model}.{record.tag}", **known.settings, **record.settings}
    arguments |= {**given, "weights": None}
    if given.get("input_shape") is None:
        arguments["input_shape"] = (*record.image_size, 3)
    if arguments.get("include_preprocessing") is True:
        arguments["include_preprocessing"] = record.statistics
    has_head = arguments.get("include_top", True)
    if has_head:
        if record.classes is None and "classes" not in given:
            raise ValueError(
                f"The weights {record.tag!r} of {record.model!r} have no classifier: pass classes for a new one, or "
                "include_top=False."
            )
        arguments.setdefault("classes", record.classes)
    path = fetch(record)
    model = builder(**arguments)
    load_weights(model, path, head=not has_head or arguments["classes"] == record.classes)
    return model
