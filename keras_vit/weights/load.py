"""Loading published weights into a Keras model, by name and with nothing left to chance."""

import math
import os
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.graph import leaves
from keras_vit.layers import PositionEmbedding, resize_positions
from keras_vit.weights import efficientvit, efficientvit_msra, vit
from keras_vit.weights.naming import Naming
from keras_vit.weights.readers import read_arrays

# The first family whose tables know every leaf of the model is the model's.
_FAMILIES = {"ViT": vit.NAMINGS, "EfficientViT": efficientvit.NAMINGS, "EfficientViT_MSRA": efficientvit_msra.NAMINGS}
_HEAD = "head"


@dataclass
class LoadReport:
    """What `load_weights` did, by the model's names ("block_0.attention.query/kernel") or, if unused, the file's."""

    project: str
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    left_as_it_was: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self):
        lines = [f"{self.project} names: {len(self.loaded)} arrays loaded"]
        for what in ("resized", "left_as_it_was", "unused"):
            if getattr(self, what):
                lines.append(f"{what.replace('_', ' ')}: {', '.join(getattr(self, what))}")
        return "\n".join(lines)


def load_weights(model: keras.Model, path: str | os.PathLike, *, head: bool = True) -> LoadReport:
    """Loads a published checkpoint or a Keras weights file into a model; on any error the model stays as it was.

    Args:
        model: A model of keras_vit.
        path: A .safetensors file with timm's or Hugging Face's names, an .npz with Google's, or a .weights.h5 or .keras
            file of the same model.
        head: Whether the classifier is loaded. False keeps the model's own, for another number of classes.

    Returns:
        A `LoadReport`. A position table for another image size is resized as ViT's authors do.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is refused, corrupt, or of another model; the sentence says what differs.
    """
    path = os.fspath(path)
    if path.lower().endswith((".h5", ".keras")):
        return _load_keras(model, path)
    arrays = read_arrays(path)
    layers = {name: layer for name, layer in leaves(model) if layer.weights}
    naming = _naming(model, layers, arrays, path)

    report, values, used, missing, misfit = LoadReport(naming.project), [], set(), [], []
    for leaf, layer in layers.items():
        for variable in layer.weights:
            name = f"{leaf}/{variable.name}"
            if leaf == _HEAD and not head:
                used.add(naming.place(leaf, variable.name))
                report.left_as_it_was.append(name)
                continue
            place = naming.place(leaf, variable.name)
            if place not in arrays:
                missing.append(place)
                continue
            used.add(place)
            value = naming.take(arrays, leaf, layer, variable.name)
            if isinstance(layer, PositionEmbedding) and value.shape != variable.shape:
                value = _resized(value, variable.shape, _grid(layers, model), path)
                report.resized.append(name)
            if value.shape != tuple(variable.shape):
                misfit.append((name, tuple(variable.shape), value.shape))
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{path!r} is corrupt: {place!r} holds values that are not finite.")
            values.append((variable, value))
            report.loaded.append(name)

    has_head = _HEAD in layers
    head_names = tuple(
        naming.place(_HEAD, weight) for weight in ("kernel", "bias") if naming.place(_HEAD, weight) is not None
    )
    report.unused = sorted(name for name in set(arrays) - used if not name.endswith(naming.layout.counters))
    surplus = [
        name
        for name in report.unused
        if not name.startswith(naming.may_be_unused) and not (name in head_names and not has_head)
    ]
    _check(path, model, missing, misfit, surplus)
    for variable, value in values:
        variable.assign(value)
    return report


def _naming(model, layers, arrays, path) -> Naming:
    for namings in _FAMILIES.values():
        if all(namings[0].place(leaf, variable.name) for leaf, layer in layers.items() for variable in layer.weights):
            break
    else:
        raise ValueError(
            f"The model {model.name!r} has layers that no family of keras_vit has, so published weights do not fit it."
        )

    def found(naming):
        return sum(
            naming.place(leaf, variable.name) in arrays for leaf, layer in layers.items() for variable in layer.weights
        )

    best = max(namings, key=found)
    if not found(best):
        known = ", ".join(f"{naming.project}'s" for naming in namings)
        raise ValueError(
            f"{path!r} holds weights of another model: none of its {len(arrays)} arrays (such as "
            f"{', '.join(sorted(arrays)[:3])}) has a name that {model.name!r} looks for ({known} names)."
        )
    return best


def _check(path, model, missing, misfit, surplus):
    differs = [(name, ours, theirs) for name, ours, theirs in misfit if not name.startswith(f"{_HEAD}/")]
    if misfit and not differs and not missing and not surplus:
        ours, theirs = misfit[0][1][-1], misfit[0][2][-1]
        raise ValueError(
            f"{path!r} has {theirs} classes and the model {model.name!r} has {ours}. Build the model with "
            f"classes={theirs}, or load all but the head with load_weights(model, path, head=False)."
        )
    problems = [f"{name} is {theirs} in the file and {ours} in the model" for name, ours, theirs in differs]
    problems += [f"{name} is missing from the file" for name in missing]
    problems += [f"{name} has no place in the model" for name in surplus]
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise ValueError(f"{path!r} holds weights of another model than {model.name!r}: {shown}.")


def _grid(layers, model):
    projection = layers["patch_embedding.projection"]
    return tuple(side // stride for side, stride in zip(model.input_shape[1:3], projection.strides, strict=True))


def _resized(table, shape, grid, path):
    prefix = shape[1] - grid[0] * grid[1]
    side = math.isqrt(max(table.shape[1] - prefix, 0))
    if table.ndim != 3 or table.shape[2] != shape[2] or side * side + prefix != table.shape[1]:
        return table  # The caller names the two shapes.
    return resize_positions(table, (side, side), grid)


def _load_keras(model, path):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no weights file {path!r}.")
    before = [keras.ops.convert_to_numpy(variable) for variable in model.weights]
    try:
        model.load_weights(path)
    except Exception as error:
        for variable, value in zip(model.weights, before, strict=True):
            variable.assign(value)
        raise ValueError(
            f"{path!r} is truncated or holds weights of another model than {model.name!r}: {error}"
        ) from error
    return LoadReport("Keras", loaded=[variable.path for variable in model.weights])
