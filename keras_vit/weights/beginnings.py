"""Find the common beginning of a file's names, such as "module.", which wrappers of a model add.

`DistributedDataParallel` adds "module.", `torch.compile` "_orig_mod.", Lightning "model.", self-supervised training
"student.backbone.", PEFT "base_model.model.". Any beginning is recognized, because what counts is the rest of the name.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from keras_vit.weights.naming import Naming

# What compiling, recomputation and sharding of single blocks insert within names.
_WRAPPERS = re.compile(r"(?<=[./])(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")


@dataclass
class Reading:
    """A file's arrays as one naming and one beginning read them.

    Attributes:
        naming: The naming.
        beginning: The beginning that was taken off, or "".
        arrays: The arrays whose names have the beginning, by their names in the naming.
        others: Names of the file's other arrays.
        found: How many of the model's weights have an array.
        copies: Beginnings of the names of several copies of the weights, if the file has more than one.
    """

    naming: Naming
    beginning: str
    arrays: dict[str, np.ndarray]
    others: list[str]
    found: int
    copies: list[str] = field(default_factory=list)


def read_with(naming: Naming, weights: list[tuple[str, str]], arrays: dict[str, np.ndarray]) -> Reading:
    """Return the reading of a file in which a naming finds the most weights of a model.

    Args:
        naming: The naming.
        weights: (leaf layer, weight) for each of the model's weights.
        arrays: The file's arrays, by name.
    """
    places = {naming.place(*weight) for weight in weights}
    places_after = _places_after(arrays, {place: place for place in places} | dict(naming.aliases))
    complete = {
        beginning: found
        for beginning, found in places_after.items()
        if 2 * len(found) > len(places) or 2 * sum(name.startswith(beginning) for name in arrays) > len(arrays)
    }
    readings = [_read(naming, weights, arrays, beginning) for beginning in {"": None, **complete}]
    best = max(readings, key=lambda reading: (reading.found, -len(reading.beginning)))
    best.copies = _copies({name: found for name, found in complete.items() if not _is_expected(name, naming)}, places)
    return best


def _places_after(arrays, places):
    """Return, for each beginning that a name of the file has, which names of the model's arrays follow it."""
    after: dict[str, set[str]] = {}
    for name in arrays:
        ends = [0, *(match.end() for match in re.finditer(r"[./]", name))]
        for end in ends:
            rest = _WRAPPERS.sub("", name[end:])
            if rest in places:
                after.setdefault(name[:end], set()).add(places[rest])
    return after


def _read(naming, weights, arrays, beginning):
    inside = {
        _WRAPPERS.sub("", name.removeprefix(beginning)): array
        for name, array in arrays.items()
        if name.startswith(beginning)
    }
    spelled = naming.respell(inside)
    found = sum(naming.place(*weight) in spelled for weight in weights)
    return Reading(naming, beginning, spelled, [name for name in arrays if not name.startswith(beginning)], found)


def _is_expected(beginning, naming):
    return beginning != "" and beginning.startswith(naming.may_be_unused)


def _copies(places_after, places):
    """Return the beginnings that most names of the model's arrays follow, if there are several."""
    copies = [beginning for beginning, found in places_after.items() if 2 * len(found) > len(places)]
    return copies if len(copies) > 1 else []
