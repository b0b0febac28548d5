"""Refuse a file that does not fit a model, with the facts that tell why."""

import re

import keras
import numpy as np

from keras_vit.layers import PositionEmbedding
from keras_vit.models.families import families, module_of
from keras_vit.weights.keras_files import PROJECT
from keras_vit.weights.matching import HEADS, Match, surplus

_FAKE_QUANT = ".fake_quant/"  # In the names of what `edge.quantize_aware` adds to a model.
_MOST_PATTERNS = 4


def check_names(match: Match, model: keras.Model, partial: bool) -> None:
    """Raise an error for missing or surplus arrays.

    Args:
        match: The arrays for the model's weights, before adapting.
        model: The model.
        partial: Whether arrays may be missing or surplus.

    Raises:
        ValueError: The file belongs to another model.
    """
    unexpected = surplus(match)
    _check_quantization(match, model, unexpected)
    if partial or not (match.missing or unexpected):
        return
    first, *_ = match.layers
    differs = {
        name: shapes
        for name, shapes in _differing_shapes(match).items()
        if name != f"{first}/kernel" and not isinstance(match.layers[name.rpartition("/")[0]], PositionEmbedding)
    }
    facts = [_first_difference(differs)] if differs else []
    if match.missing:
        facts.append(f"{next(iter(match.missing.values()))} is missing from the file{_first_of(match.missing)}")
    if unexpected:
        facts.append(f"{min(unexpected, key=_natural)} has no counterpart in the model{_first_of(unexpected)}")
    foreign = [] if differs or match.missing else _patterns(unexpected, match)
    if foreign:
        holds, hint = "more than the weights of", f" To leave that out, pass ignore={foreign}."
    else:
        holds = "weights of another model than"
        hint = "" if differs else " To load only what fits, pass partial=True."
    raise ValueError(f"{match.path!r} holds {holds} {model.name!r}: {'; '.join(facts)}.{hint}")


def check_values(match: Match, model: keras.Model) -> None:
    """Raise an error for values that are not finite, and for shapes that differ.

    Args:
        match: The arrays for the model's weights, after adapting.
        model: The model.

    Raises:
        ValueError: The file belongs to another model, or is corrupt.
    """
    for name, value in match.values.items():
        if not np.all(np.isfinite(value)):
            leaf, _, weight = name.rpartition("/")
            place = match.naming.place(leaf, weight)
            raise ValueError(f"{match.path!r} is corrupt: {place!r} holds values that are not finite.")
    if differs := _differing_shapes(match):
        raise ValueError(
            f"{match.path!r} holds weights of another model than {model.name!r}: {_first_difference(differs)}."
        )
    heads = {name: value for name, value in match.values.items() if name.split("/")[0] in HEADS}
    for name, value in heads.items():
        classes = match.variables[name].shape[-1]
        if value.shape != tuple(match.variables[name].shape):
            raise ValueError(
                f"{match.path!r} has {value.shape[-1]} classes and the model {model.name!r} has {classes}. Build the "
                f"model with classes={value.shape[-1]}, or load all but the head with load_weights(model, path, "
                "head=False)."
            )


def _differing_shapes(match):
    """Return the shapes of the model's weights and of their arrays where they differ, except for the classifier."""
    shapes = {name: (tuple(match.variables[name].shape), value.shape) for name, value in match.values.items()}
    return {
        name: (ours, theirs)
        for name, (ours, theirs) in shapes.items()
        if ours != theirs and name.split("/")[0] not in HEADS
    }


def _first_difference(differs):
    name, (ours, theirs) = next(iter(differs.items()))
    return f"{name} is {theirs} in the file and {ours} in the model{_first_of(differs)}"


def _check_quantization(match, model, unexpected):
    if any(_FAKE_QUANT in name for name in unexpected):
        remedy = (
            "import keras_vit.edge and open the file with keras.models.load_model."
            if match.path.lower().endswith(".keras")
            else "quantize the model in the same way with edge.quantize_aware before you load the file."
        )
        raise ValueError(f"{match.path!r} holds a quantized model and {model.name!r} is not quantized: {remedy}")
    if any(_FAKE_QUANT in name for name in match.missing):
        raise ValueError(
            f"{match.path!r} holds a model that is not quantized and {model.name!r} is quantized: load the file into "
            "the model before you quantize it."
        )


def _first_of(names):
    return f" (the first of {len(names)})" if len(names) > 1 else ""


def _natural(name):
    """A key that sorts "blocks.2" before "blocks.10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _patterns(surplus, match):
    """Return patterns for arrays that are not a part of such a model, such as "decoder*", or none if some are."""
    for separators in (r"[./]", r"^[^./]*?_|[./]"):  # Up to a dot, or up to an underscore if these are too many.
        patterns = dict.fromkeys(_pattern(name, separators, match) for name in sorted(surplus, key=_natural))
        if None in patterns:
            return []
        if len(patterns) <= _MOST_PATTERNS:
            return list(patterns)
    return []


def _pattern(name, separators, match):
    ends = [end.end() for end in re.finditer(rf"{separators}|$", name)]
    beginning = next(name[:end] for end in ends if not _is_beginning_of_a_weight(name[:end], match))
    if _is_weight_of_a_model(name, match.naming) or re.search(r"[._]\d+[./]$", beginning):
        return None
    return beginning if beginning == name else f"{beginning}*"


def _is_beginning_of_a_weight(beginning, match):
    return match.beginning.startswith(beginning) or any(used.startswith(beginning) for used in match.used)


def _is_weight_of_a_model(name, naming):
    if naming.project != PROJECT:
        return naming.knows(name) and not name.startswith(naming.beside_the_model)
    layer = name.rpartition("/")[0]
    namings = [naming for family in families() for naming in module_of(family, "weights").NAMINGS]
    return any(naming.place(layer, "") is not None for naming in namings)
