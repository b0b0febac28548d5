"""Loading published weights into a Keras model, by name and with nothing left to chance."""

import math
import os
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.graph.flattening import leaves
from keras_vit.layers import PositionEmbedding
from keras_vit.models.efficientvit import weights as efficientvit
from keras_vit.models.efficientvit_msra import weights as efficientvit_msra
from keras_vit.models.mobile_former import weights as mobile_former
from keras_vit.models.mobilevit import weights as mobilevit
from keras_vit.models.vit import weights as vit
from keras_vit.weights.naming import Naming
from keras_vit.weights.readers import read_arrays

# The first family whose tables know every leaf of the model is the model's.
_FAMILIES = {
    "ViT": vit.NAMINGS,
    "EfficientViT": efficientvit.NAMINGS,
    "EfficientViT_MSRA": efficientvit_msra.NAMINGS,
    "MobileFormer": mobile_former.NAMINGS,
    "MobileViT": mobilevit.NAMINGS,
    "MobileViTV2": mobilevit.NAMINGS_V2,
}
_HEADS = ("head", "head_dist")


@dataclass
class LoadReport:
    """What `load_weights` did, by the model's names ("block_0.attention.query/kernel") or, if unused, the file's.

    Attributes:
        project: Whose names the file has.
        loaded: All that came from the file; the next two lists are among these.
        resized: Position tables made for another image size.
        adapted: What was made to fit otherwise: the first kernel, to another number of image channels; the class token
            and the position table, where one of file and model gives the class token a position and the other does not.
        left_as_it_was: What the file has no weights for, or was not asked for.
        unused: Arrays of the file that the model has no place for, and that can be spared.
    """

    project: str
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    left_as_it_was: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self):
        lines = [f"{self.project} names: {len(self.loaded)} arrays loaded"]
        for what in ("resized", "adapted", "left_as_it_was", "unused"):
            if getattr(self, what):
                lines.append(f"{what.replace('_', ' ')}: {', '.join(getattr(self, what))}")
        return "\n".join(lines)


def load_weights(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    head: bool | str = True,
    position_grid: tuple[int, int] | None = None,
) -> LoadReport:
    """Loads a published checkpoint or a Keras weights file into a model; on any error the model stays as it was.

    A position table for another image size is resized as the model's authors do. A first kernel for colour images is
    summed over its channels for a model of one channel, and repeated for one of others.

    Args:
        model: A model of keras_vit.
        path: A .safetensors file with timm's or Hugging Face's names, an .npz with Google's, or a .weights.h5 or .keras
            file of the same model.
        head: Whether the classifier is loaded. False keeps the model's own, for other classes; "auto" does so if the
            file has another number of classes or no classifier.
        position_grid: Rows and columns of patches that the file's position table was made for. Needed where they are
            neither equal nor the model's.

    Returns:
        A `LoadReport`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is refused, corrupt, or of another model; the sentence says what differs.
    """
    path = os.fspath(path)
    if head not in (True, False, "auto"):
        raise ValueError(f"head is True, False or 'auto'; received {head!r}.")
    if path.lower().endswith((".h5", ".keras")):
        return _load_keras(model, path, head)
    layers = {name: layer for name, layer in leaves(model) if layer.weights}
    naming, arrays = _naming(model, layers, read_arrays(path), path)
    if head == "auto":
        head = _head_fits(layers, naming, arrays)

    report, values, variables, used, missing = LoadReport(naming.project), {}, {}, set(), []
    for leaf, layer in layers.items():
        for variable in layer.weights:
            name, place = f"{leaf}/{variable.name}", naming.place(leaf, variable.name)
            if leaf in _HEADS and not head:
                used.add(place)
                report.left_as_it_was.append(name)
            elif place in arrays:
                used.add(place)
                values[name], variables[name] = naming.take(arrays, leaf, layer, variable.name), variable
                if not np.all(np.isfinite(values[name])):
                    raise ValueError(f"{path!r} is corrupt: {place!r} holds values that are not finite.")
            elif isinstance(layer, PositionEmbedding) and layer.kind != "learned":
                report.left_as_it_was.append(name)
            else:
                missing.append(place or name)
    try:
        _fit_positions(layers, values, position_grid, report)
    except ValueError as error:
        raise ValueError(f"{path!r} does not fit {model.name!r}: {error}") from error
    _fit_channels(layers, values, report)

    report.loaded = list(values)
    report.unused = sorted(name for name in set(arrays) - used if not name.endswith(naming.layout.counters))
    misfit = [
        (name, tuple(variables[name].shape), value.shape)
        for name, value in values.items()
        if value.shape != tuple(variables[name].shape)
    ]
    may_be_unused = naming.may_be_unused
    if not any(leaf in layers for leaf in _HEADS):
        may_be_unused += tuple(filter(None, (naming.place(leaf, "kernel") for leaf in _HEADS)))
        may_be_unused += tuple(filter(None, (naming.place(leaf, "bias") for leaf in _HEADS)))
    _check(path, model, missing, misfit, [name for name in report.unused if not name.startswith(may_be_unused)])
    for name, value in values.items():
        variables[name].assign(value)
    return report


def _naming(model, layers, arrays, path) -> tuple[Naming, dict[str, np.ndarray]]:
    """The naming that a file follows, and its arrays in that naming's spelling."""
    for namings in _FAMILIES.values():
        if all(namings[0].place(leaf, variable.name) for leaf, layer in layers.items() for variable in layer.weights):
            break
    else:
        raise ValueError(
            f"The model {model.name!r} has layers that no family of keras_vit has, so published weights do not fit it."
        )
    respelled = [naming.respell(arrays) for naming in namings]
    found = [
        sum(
            naming.place(leaf, variable.name) in respelled[i]
            for leaf, layer in layers.items()
            for variable in layer.weights
        )
        for i, naming in enumerate(namings)
    ]
    best = found.index(max(found))
    if not found[best]:
        known = ", ".join(f"{naming.project}'s" for naming in namings)
        raise ValueError(
            f"{path!r} holds weights of another model: none of its {len(arrays)} arrays (such as "
            f"{', '.join(sorted(arrays)[:3])}) has a name that {model.name!r} looks for ({known} names)."
        )
    return namings[best], respelled[best]


def _head_fits(layers, naming, arrays):
    return all(
        naming.place(leaf, variable.name) in arrays
        and naming.take(arrays, leaf, layers[leaf], variable.name).shape == tuple(variable.shape)
        for leaf in _HEADS
        if leaf in layers
        for variable in layers[leaf].weights
    )


def _fit_positions(layers, values, given_grid, report):
    """Makes position tables fit the model's image size and its way with the class token."""
    token = "class_token/token"
    for leaf, layer in layers.items():
        name = f"{leaf}/table"
        if not isinstance(layer, PositionEmbedding) or name not in values:
            continue
        table = values[name]
        if table.ndim != 3 or table.shape[2] != layer.table.shape[2]:
            continue  # The caller names the two shapes.
        prefix, grid = _prefix_and_grid(table.shape[1], layer, given_grid)
        if prefix < layer.prefix:
            table = np.pad(table, ((0, 0), (layer.prefix - prefix, 0), (0, 0)))
            report.adapted.append(name)
        elif prefix > layer.prefix:
            if token not in values:
                continue
            values[token] = values[token] + table[:, :1]
            table = table[:, 1:]
            report.adapted += [name, token]
        values[name] = layer.resized(table, grid)
        if grid != layer.grid:
            report.resized.append(name)


def _prefix_and_grid(rows, layer, given_grid):
    """How many tokens stand before the patches in a table of so many rows, and the grid of the patches."""
    # The model's own number of tokens, or a class token without or with a position of its own.
    for prefix in (layer.prefix, 0, 1):
        side = math.isqrt(max(0, rows - prefix))
        for grid in [(side, side), layer.grid] if given_grid is None else [tuple(given_grid)]:
            if rows > prefix and grid[0] * grid[1] == rows - prefix:
                return prefix, grid
    if given_grid is None:
        raise ValueError(
            f"its position table has {rows} rows, which is no square grid of patches; name the rows and columns of "
            "patches with load_weights(model, path, position_grid=(rows, columns))"
        )
    raise ValueError(
        f"its position table has {rows} rows, which is not a grid of {given_grid[0]} x {given_grid[1]} patches, nor "
        "one with a class token"
    )


def _fit_channels(layers, values, report):
    """Makes a first kernel for images of three channels fit images of another number, as timm does."""
    leaf, layer = next(iter(layers.items()))
    name = f"{leaf}/kernel"
    if not isinstance(layer, keras.layers.Conv2D) or name not in values or values[name].ndim != 4:
        return
    kernel, channels = values[name], layer.kernel.shape[2]
    if kernel.shape[2] != 3 or channels == 3:
        return
    if channels == 1:
        values[name] = kernel.sum(axis=2, keepdims=True)
    else:
        values[name] = kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)
    report.adapted.append(name)


def _check(path, model, missing, misfit, surplus):
    differs = [(name, ours, theirs) for name, ours, theirs in misfit if name.split("/")[0] not in _HEADS]
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


def _load_keras(model, path, head):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no weights file {path!r}.")
    if head is False:
        raise ValueError(
            f"{path!r} is a Keras file, which is loaded whole; head=False is for published checkpoints. Load it into a "
            "model with the same classes, and build the new head on that."
        )
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
