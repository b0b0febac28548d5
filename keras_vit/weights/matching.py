"""Find the array of a file for each weight of a model."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.graph.flattening import leaves
from keras_vit.layers import PositionEmbedding
from keras_vit.models.families import families, module_of
from keras_vit.weights.beginnings import Reading, read_with
from keras_vit.weights.keras_files import SUFFIXES, keras_naming
from keras_vit.weights.naming import Naming
from keras_vit.weights.quantized import is_adapter, is_quantized

HEADS = ("head", "head_dist")


@dataclass
class Match:
    """The array of a file for each weight of a model. Adapting changes `values`.

    Attributes:
        path: The file.
        naming: The naming that the file uses.
        layers: The model's leaf layers with weights, by name.
        beginning: What was taken off at the beginning of the file's names.
        values: The arrays for the weights, in Keras' layout, by the weights' names.
        variables: The weights, by name.
        kept: Names of the weights that keep their values.
        missing: The file's names for arrays that the model needs and the file does not have, by the weights' names.
        used: Names of the file's arrays that belong to weights, including those of a head that is kept.
        unused: Names of the file's arrays that belong to no weight.
        ignored: Names of the file's arrays that the caller left out.
        resized: Names of the position tables that were resized.
        adapted: Names of the weights that were adapted in another way.
    """

    path: str
    naming: Naming
    layers: dict[str, keras.layers.Layer]
    beginning: str = ""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    variables: dict[str, keras.Variable] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    unused: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)

    @property
    def loads_head(self) -> bool:
        """Whether the model has a classifier and it comes from the file."""
        return any(name.split("/")[0] in HEADS for name in (*self.values, *self.missing))


def match_arrays(
    model: keras.Model, path: str, arrays: dict[str, np.ndarray], head: bool | str, ignore: Sequence[str]
) -> Match:
    """Find the array of each weight, with the naming that fits the file best.

    Args:
        model: The model.
        path: The file, for messages.
        arrays: The file's arrays, by name.
        head: As in `load_weights`.
        ignore: Patterns of the names of arrays to leave out.

    Raises:
        ValueError: The arrays belong to another model, are quantized, or are several copies of the weights; or a
            pattern matches no array.
    """
    layers = {name: layer for name, layer in leaves(model) if layer.weights}
    ignored = {name for name in arrays if _matches(name, ignore)}
    arrays = {name: array for name, array in arrays.items() if name not in ignored}
    reading = _reading(model, layers, arrays, path)
    # A pattern may also be for a name as reports show it, in the naming and without its beginning.
    arrays = {name: array for name, array in reading.arrays.items() if not _matches(name, ignore)}
    ignored |= reading.arrays.keys() - arrays.keys()
    for pattern in ignore:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in ignored):
            raise ValueError(f"ignore={pattern!r} matches none of the names in {path!r}, such as {_examples(arrays)}.")
    match = Match(path, reading.naming, layers, reading.beginning, ignored=sorted(ignored))
    _refuse_quantized(match, arrays)
    naming = match.naming
    if head == "auto":
        head = _head_fits(layers, naming, arrays)
    for leaf, variable in weights_of(layers):
        name, place = f"{leaf}/{variable.name}", naming.place(leaf, variable.name)
        if place is None:
            raise KeyError(name)  # `_reading` takes only a naming that knows every weight.
        if leaf in HEADS and not head:
            match.used.add(place)
            match.kept.append(name)
        elif place in arrays:
            match.used.add(place)
            match.values[name] = naming.take(arrays, leaf, layers[leaf], variable.name)
            match.variables[name] = variable
        elif place in naming.may_be_missing or (
            isinstance(layers[leaf], PositionEmbedding) and layers[leaf].kind != "learned"
        ):
            match.kept.append(name)
        else:
            match.missing[name] = place
    counters = naming.layout.counters
    others = [*arrays, *reading.others]
    match.unused = [name for name in others if name not in match.used and not name.endswith(counters)]
    return match


def weights_of(layers: dict[str, keras.layers.Layer]) -> list[tuple[str, keras.Variable]]:
    """Return (name of the leaf layer, weight) for each weight."""
    return [(leaf, variable) for leaf, layer in layers.items() for variable in layer.weights]


def surplus(match: Match) -> list[str]:
    """Return the names of unused arrays that are not expected."""
    expected = match.naming.may_be_unused
    if not match.loads_head:
        places = [match.naming.place(leaf, weight) for leaf in HEADS for weight in ("kernel", "bias")]
        expected += (*match.naming.unused_without_head, *filter(None, places))
    return [name for name in match.unused if not name.startswith(expected)]


def _matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _reading(model, layers, arrays, path) -> Reading:
    """Return how a file is read: with the naming that finds the most weights, of all that cover the whole model."""
    adapters = [name for name in arrays if is_adapter(name)]
    if adapters:
        raise ValueError(
            f"{path!r} holds a low-rank adapter ({adapters[0]}), which changes the weights of another file: merge the "
            "two in PyTorch, with peft's merge_and_unload(), and save the merged model."
        )
    weights = [(leaf, variable.name) for leaf, variable in weights_of(layers)]
    namings = [
        naming
        for family in families()
        for naming in module_of(family, "weights").NAMINGS
        if all(naming.place(*weight) for weight in weights)
    ]
    readings = [read_with(naming, weights, arrays) for naming in (*namings, keras_naming(layers))]
    # Families share names of layers. Of namings that find as many weights, the one that knows more of the file counts.
    most = max(reading.found for reading in readings)
    best = max(
        (reading for reading in readings if reading.found == most),
        key=lambda reading: sum(reading.naming.knows(name, with_beginning=True) for name in arrays),
    )
    if best.found:
        _refuse_copies(path, best.copies)
        return best
    if not namings and not path.lower().endswith(SUFFIXES):
        raise ValueError(
            f"The model {model.name!r} has layers that no family of keras_vit has, so published weights do not fit it."
        )
    known = ", ".join(dict.fromkeys(f"{naming.project}'s" for naming in (*namings, keras_naming(layers))))
    raise ValueError(
        f"{path!r} holds weights of another model: none of its {len(arrays)} arrays (such as {_examples(arrays)}) has "
        f"a name that {model.name!r} looks for ({known} names).{_family_of(arrays)}"
    )


def _examples(arrays):
    return ", ".join(sorted(arrays)[:3]) or "none at all"


def _family_of(arrays):
    """Name the family whose naming knows the most of a file's names, if it knows most of them."""
    known = {
        (family, naming.project): sum(naming.knows(name, with_beginning=True) for name in arrays)
        for family in families()
        for naming in module_of(family, "weights").NAMINGS
    }
    (family, project), count = max(known.items(), key=lambda item: item[1])
    return f" They are {project}'s names of the family {family!r}." if 2 * count > len(arrays) else ""


def _refuse_copies(path, copies):
    if not copies:
        return
    shared = 0
    while len({beginning[shared : shared + 1] for beginning in copies}) == 1 and copies[0][shared : shared + 1]:
        shared += 1
    # The part in which they differ, up to its end: "model." and "model_ema." of "model.vit." and "model_ema.vit.".
    ends = [min((at for at in (b.find(".", shared), b.find("/", shared)) if at >= 0), default=-1) for b in copies]
    parts = [beginning if end < 0 else beginning[: end + 1] for beginning, end in zip(copies, ends, strict=True)]
    last = max(parts, key=lambda part: ("ema" in part.lower() or "teacher" in part.lower(), len(part)))
    raise ValueError(
        f"{path!r} holds {len(copies)} copies of the weights, with names that begin with "
        f"{' and '.join(repr(part) if part else 'nothing' for part in parts)}: leave out all but one, such as with "
        f"ignore={last + '*'!r}."
    )


def _refuse_quantized(match, arrays):
    is_integer = {
        match.naming.place(leaf, variable.name): keras.backend.is_int_dtype(variable.dtype)
        for leaf, variable in weights_of(match.layers)
    }
    for name, array in arrays.items():
        is_weight = name in is_integer
        if is_integer.get(name, False):
            continue
        if is_quantized(name, array) or (is_weight and array.dtype.kind in "iub"):
            kind = "scales or packed values of a quantizer" if array.dtype.itemsize > 1 else "8-bit values"
            kind = "integers" if is_weight and array.dtype.itemsize > 1 else kind
            raise ValueError(
                f"{match.path!r} is quantized: {name!r} holds {kind} instead of weights in floating point. Load the "
                "file that it was made from, or one in float32, float16 or bfloat16."
            )


def _head_fits(layers, naming, arrays):
    return all(
        naming.place(leaf, variable.name) in arrays
        and naming.take(arrays, leaf, layers[leaf], variable.name).shape == tuple(variable.shape)
        for leaf, variable in weights_of({name: layer for name, layer in layers.items() if name in HEADS})
    )
