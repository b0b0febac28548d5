"""Refuse a file that does not fit a model, with the facts that tell why."""

import re

import keras
import numpy as np

from keras_vit.models.families import families, module_of
from keras_vit.weights.keras_files import PROJECT
from keras_vit.weights.matching import HEADS, Match, surplus

_FAKE_QUANT = ".fake_quant/"  # In the names of what `edge.quantize_aware` adds to a model.
_MOST_PATTERNS = 4


def check(match: Match, model: keras.Model, partial: bool) -> None:
    """Raise an error for values that are not finite, for shapes that differ, and for missing or surplus arrays.

    Args:
        match: The arrays for the model's weights, after adapting.
        model: The model.
        partial: Whether arrays may be missing or surplus.

    Raises:
        ValueError: The file does not fit the model, or is corrupt.
    """
    for name, value in match.values.items():
        if not np.all(np.isfinite(value)):
            leaf, _, weight = name.rpartition("/")
            place = match.naming.place(leaf, weight)
            raise ValueError(f"{match.path!r} is corrupt: {place!r} holds values that are not finite.")
    unexpected = surplus(match)
    _check_quantization(match, model, unexpected)
    shapes = {name: (tuple(match.variables[name].shape), value.shape) for name, value in match.values.items()}
    misfit = {name: (ours, theirs) for name, (ours, theirs) in shapes.items() if ours != theirs}
    differs = {name: pair for name, pair in misfit.items() if name.split("/")[0] not in HEADS}
    if misfit and not differs and not match.missing and not unexpected:
        (ours, theirs), *_ = misfit.values()
        raise ValueError(
            f"{match.path!r} has {theirs[-1]} classes and the model {model.name!r} has {ours[-1]}. Build the model "
            f"with classes={theirs[-1]}, or load all but the head with load_weights(model, path, head=False)."
        )
    facts = []
    if differs:
        name, (ours, theirs) = next(iter(differs.items()))
        facts.append(f"{name} is {theirs} in the file and {ours} in the model{_first_of(differs)}")
    if match.missing and not partial:
        facts.append(f"{next(iter(match.missing.values()))} is missing from the file{_first_of(match.missing)}")
    if unexpected and not partial:
        facts.append(f"{min(unexpected, key=_natural)} has no counterpart in the model{_first_of(unexpected)}")
    if not facts:
        return
    foreign = [] if differs or match.missing else _patterns(unexpected, match)
    if foreign:
        holds, hint = "more than the weights of", f" To leave that out, pass ignore={foreign}."
    else:
        holds = "weights of another model than"
        hint = "" if differs else " To load only what fits, pass partial=True."
    raise ValueError(f"{match.path!r} holds {holds} {model.name!r}: {'; '.join(facts)}.{hint}")


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
    """Return patterns for arrays that are not a part of such a model, such as "decoder_*", or none if some are."""
    patterns = []
    for name in sorted(surplus, key=_natural):
        ends = [end.end() for end in re.finditer(r"^[^./]*?_|[./]|$", name)]
        beginning = next(name[:end] for end in ends if not _is_beginning_of_a_weight(name[:end], match))
        if _is_weight_of_a_model(name, match.naming) or re.search(r"[._]\d+[./]$", beginning):
            return []
        patterns.append(beginning if beginning == name else f"{beginning}*")
    patterns = list(dict.fromkeys(patterns))
    return patterns if len(patterns) <= _MOST_PATTERNS else []


def _is_beginning_of_a_weight(beginning, match):
    return match.beginning.startswith(beginning) or any(used.startswith(beginning) for used in match.used)


def _is_weight_of_a_model(name, naming):
    if naming.project != PROJECT:
        return naming.knows(name)
    layer = name.rpartition("/")[0]
    namings = [naming for family in families() for naming in module_of(family, "weights").NAMINGS]
    return any(naming.place(layer, "") is not None for naming in namings)
