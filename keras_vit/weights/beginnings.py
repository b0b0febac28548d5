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
_MOST_BEGINNINGS = 6  # How many of the most frequent ones are tried.


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
    places_after = _places_after(arrays, places)
    frequent = sorted(places_after, key=lambda beginning: -len(places_after[beginning]))[:_MOST_BEGINNINGS]
    readings = [_read(naming, weights, arrays, beginning) for beginning in dict.fromkeys(["", *frequent])]
    best = max(readings, key=lambda reading: (reading.found, -len(reading.beginning)))
    best.copies = _copies({name: found for name, found in places_after.items() if not _is_expected(name, naming)})
    return best


def _places_after(arrays, places):
    """Return, for each beginning that a name of the file has, which names of the model's arrays follow it."""
    after: dict[str, set[str]] = {}
    for name in arrays:
        ends = [0, *(match.end() for match in re.finditer(r"[./]", name))]
        for end in ends:
            rest = _WRAPPERS.sub("", name[end:])
            if rest in places:
                after.setdefault(name[:end], set()).add(rest)
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


def _copies(places_after):
    """Return the beginnings that most of the same names follow."""
    most = max(map(len, places_after.values()), default=0)
    complete = [beginning for beginning, places in places_after.items() if 2 * len(places) > most]
    largest = max(complete, key=lambda beginning: len(places_after[beginning]), default=None)
    same = [beginning for beginning in complete if 2 * len(places_after[beginning] & places_after[largest]) > most]
    return same if len(same) > 1 else []
