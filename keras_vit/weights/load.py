"""Load published weights into a Keras model by name: match, adapt, check, assign."""

import math
import os
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.graph.flattening import leaves
from keras_vit.layers import PositionEmbedding
from keras_vit.models.families import families, module_of
from keras_vit.weights.naming import Naming
from keras_vit.weights.readers import read_arrays

_HEADS = ("head", "head_dist")


@dataclass
class LoadReport:
    """The result of `load_weights`.

    Weights have the model's names, such as "block_0.attention.query/kernel"; `unused` has the file's names.

    Attributes:
        project: The project whose names the file uses.
        loaded: All weights that were loaded from the file, including the resized and adapted ones.
        resized: Position tables that were resized from another image size.
        adapted: Weights that were adapted in another way: the first kernel, to a different number of image channels;
            the class token and the position table, if only one of file and model has a position for the class token.
        left_as_it_was: Weights that kept their values, because the file does not have them or they were not requested.
        unused: Arrays of the file that the model does not need.
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
    """Load a published checkpoint or a Keras weights file into a model. If loading fails, the model does not change.

    A position table for another image size is resized in the same way as by the model's authors. A first kernel for
    color images is summed over its channels for a model with one channel, and repeated for other numbers of channels.

    Args:
        model: A model of keras_vit.
        path: A .safetensors file with timm's or Hugging Face's names, an .npz file with Google's, or a .weights.h5 or
            .keras file of the same model.
        head: Whether to load the classifier. False keeps the model's own, for other classes; "auto" keeps it if the
            file has a different number of classes or no classifier.
        position_grid: Rows and columns of patches of the file's position table. Only needed if the grid is neither
            square nor the model's.

    Returns:
        A `LoadReport`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a pickle, is corrupt, or belongs to another model. The message says what differs.
    """
    path = os.fspath(path)
    if head not in (True, False, "auto"):
        raise ValueError(f"head must be True, False or 'auto'; received {head!r}.")
    if path.lower().endswith((".h5", ".keras")):
        return _load_keras(model, path, head)
    match = _match(model, path, head)
    _adapt(match, model, position_grid)
    _check(match, model)
    for name, value in match.values.items():
        match.variables[name].assign(value)
    return match.report()


@dataclass
class _Match:
    """The array of a file for each weight of a model. Adapting changes `values`.

    Attributes:
        path: The file.
        naming: The naming that the file uses.
        layers: The model's leaf layers with weights, by name.
        values: The arrays for the weights, in Keras' layout, by the weights' names.
        variables: The weights, by name.
        kept: Names of the weights that keep their values.
        missing: Names, in the file's naming, of arrays that the model needs and the file does not have.
        unused: Names of the file's arrays that no weight uses.
        resized: Names of the position tables that were resized.
        adapted: Names of the weights that were adapted in another way.
    """

    path: str
    naming: Naming
    layers: dict[str, keras.layers.Layer]
    values: dict[str, np.ndarray] = field(default_factory=dict)
    variables: dict[str, keras.Variable] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)

    def report(self) -> LoadReport:
        return LoadReport(
            self.naming.project, list(self.values), self.resized, self.adapted, self.kept, sorted(self.unused)
        )


def _match(model: keras.Model, path: str, head: bool | str) -> _Match:
    """Find the array of each weight, with the naming that fits the file best."""
    layers = {name: layer for name, layer in leaves(model) if layer.weights}
    naming, arrays = _naming(model, layers, read_arrays(path), path)
    if head == "auto":
        head = _head_fits(layers, naming, arrays)
    match, used = _Match(path, naming, layers), set()
    for leaf, variable in _weights(layers):
        name, place = f"{leaf}/{variable.name}", naming.place(leaf, variable.name)
        if leaf in _HEADS and not head:
            used.add(place)
            match.kept.append(name)
        elif place in arrays:
            used.add(place)
            match.values[name] = naming.take(arrays, leaf, layers[leaf], variable.name)
            match.variables[name] = variable
        elif isinstance(layers[leaf], PositionEmbedding) and layers[leaf].kind != "learned":
            match.kept.append(name)
        else:
            match.missing.append(place or name)
    match.unused = [name for name in set(arrays) - used if not name.endswith(naming.layout.counters)]
    return match


def _weights(layers):
    return [(leaf, variable) for leaf, layer in layers.items() for variable in layer.weights]


def _naming(model, layers, arrays, path) -> tuple[Naming, dict[str, np.ndarray]]:
    """Return the naming that a file uses, and the file's arrays under the names of that naming.

    Of all namings that cover every weight of the model, this is the one that finds the most weights in the file.
    """
    weights = [(leaf, variable.name) for leaf, variable in _weights(layers)]
    namings = [
        naming
        for family in families()
        for naming in module_of(family, "weights").NAMINGS
        if all(naming.place(*weight) for weight in weights)
    ]
    if not namings:
        raise ValueError(
            f"The model {model.name!r} has layers that no family of keras_vit has, so published weights do not fit it."
        )
    respelled = [naming.respell(arrays) for naming in namings]
    found = [
        sum(naming.place(*weight) in spelled for weight in weights)
        for naming, spelled in zip(namings, respelled, strict=True)
    ]
    best = found.index(max(found))
    if not found[best]:
        known = ", ".join(dict.fromkeys(f"{naming.project}'s" for naming in namings))
        raise ValueError(
            f"{path!r} holds weights of another model: none of its {len(arrays)} arrays (such as "
            f"{', '.join(sorted(arrays)[:3])}) has a name that {model.name!r} looks for ({known} names)."
        )
    return namings[best], respelled[best]


def _head_fits(layers, naming, arrays):
    return all(
        naming.place(leaf, variable.name) in arrays
        and naming.take(arrays, leaf, layers[leaf], variable.name).shape == tuple(variable.shape)
        for leaf, variable in _weights({name: layer for name, layer in layers.items() if name in _HEADS})
    )


def _adapt(match: _Match, model: keras.Model, position_grid: tuple[int, int] | None) -> None:
    """Adapt the arrays to the image size, the number of image channels and the class token of the model."""
    try:
        _adapt_positions(match, position_grid)
        _adapt_relative_positions(match)
    except ValueError as error:
        raise ValueError(f"{match.path!r} does not fit {model.name!r}: {error}") from error
    _adapt_channels(match)


def _adapt_positions(match, position_grid):
    token, values = "class_token/token", match.values
    for leaf, layer in match.layers.items():
        name = f"{leaf}/table"
        if not isinstance(layer, PositionEmbedding) or name not in values:
            continue
        table = values[name]
        if table.ndim != 3 or table.shape[2] != layer.table.shape[2]:
            continue  # `_check` names the two shapes.
        prefix, grid = _prefix_and_grid(table.shape[1], layer, position_grid)
        if prefix < layer.prefix:
            table = np.pad(table, ((0, 0), (layer.prefix - prefix, 0), (0, 0)))
            match.adapted.append(name)
        elif prefix > layer.prefix:
            if token not in values:
                continue
            values[token] = values[token] + table[:, :1]
            table = table[:, 1:]
            match.adapted += [name, token]
        values[name] = layer.resized(table, grid)
        if grid != layer.grid:
            match.resized.append(name)


def _adapt_relative_positions(match):
    """Resize tables of relative positions to the windows of the model.

    A layer with such a table has a method `resized(table)`, which returns its table, computed from the file's.
    """
    for leaf, layer in match.layers.items():
        name = f"{leaf}/table"
        if isinstance(layer, PositionEmbedding) or not hasattr(layer, "resized") or name not in match.values:
            continue
        table = match.values[name]
        if table.ndim == 2 and table.shape[1] == layer.table.shape[1] and len(table) != layer.table.shape[0]:
            match.values[name] = layer.resized(table)
            match.resized.append(name)


def _prefix_and_grid(rows, layer, position_grid):
    """Return the number of tokens before the patches in a position table with these rows, and the grid of patches."""
    # The number of tokens that the model has, or that of a class token without or with a position.
    for prefix in (layer.prefix, 0, 1):
        side = math.isqrt(max(0, rows - prefix))
        for grid in [(side, side), layer.grid] if position_grid is None else [tuple(position_grid)]:
            if rows > prefix and grid[0] * grid[1] == rows - prefix:
                return prefix, grid
    if position_grid is None:
        raise ValueError(
            f"its position table has {rows} rows, which is not a square grid of patches; pass the rows and columns of "
            "patches: load_weights(model, path, position_grid=(rows, columns))"
        )
    raise ValueError(
        f"its position table has {rows} rows, which is not a grid of {position_grid[0]} x {position_grid[1]} patches, "
        "nor one with a class token"
    )


def _adapt_channels(match):
    """Adapt a first kernel for images with three channels to a different number of channels, as timm does."""
    leaf, layer = next(iter(match.layers.items()))
    name = f"{leaf}/kernel"
    if not isinstance(layer, keras.layers.Conv2D) or name not in match.values or match.values[name].ndim != 4:
        return
    kernel, channels = match.values[name], layer.kernel.shape[2]
    if kernel.shape[2] != 3 or channels == 3:
        return
    if channels == 1:
        match.values[name] = kernel.sum(axis=2, keepdims=True)
    else:
        match.values[name] = kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)
    match.adapted.append(name)


def _check(match: _Match, model: keras.Model) -> None:
    """Raise an error for values that are not finite, for shapes that differ, and for missing or surplus arrays."""
    for name, value in match.values.items():
        if not np.all(np.isfinite(value)):
            leaf, _, weight = name.rpartition("/")
            place = match.naming.place(leaf, weight)
            raise ValueError(f"{match.path!r} is corrupt: {place!r} holds values that are not finite.")
    shapes = {name: (tuple(match.variables[name].shape), value.shape) for name, value in match.values.items()}
    misfit = {name: (ours, theirs) for name, (ours, theirs) in shapes.items() if ours != theirs}
    differs = {name: pair for name, pair in misfit.items() if name.split("/")[0] not in _HEADS}
    surplus = _surplus(match)
    if misfit and not differs and not match.missing and not surplus:
        (ours, theirs), *_ = misfit.values()
        raise ValueError(
            f"{match.path!r} has {theirs[-1]} classes and the model {model.name!r} has {ours[-1]}. Build the model "
            f"with classes={theirs[-1]}, or load all but the head with load_weights(model, path, head=False)."
        )
    problems = [f"{name} is {theirs} in the file and {ours} in the model" for name, (ours, theirs) in differs.items()]
    problems += [f"{name} is missing from the file" for name in match.missing]
    problems += [f"{name} has no counterpart in the model" for name in surplus]
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise ValueError(f"{match.path!r} holds weights of another model than {model.name!r}: {shown}.")


def _surplus(match):
    """Return the names of unused arrays that are not expected. A model without a head does not use the file's head."""
    expected = match.naming.may_be_unused
    if not any(leaf in match.layers for leaf in _HEADS):
        places = [match.naming.place(leaf, weight) for leaf in _HEADS for weight in ("kernel", "bias")]
        expected += tuple(filter(None, places))
    return sorted(name for name in match.unused if not name.startswith(expected))


def _load_keras(model, path, head):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no weights file {path!r}.")
    if head is False:
        raise ValueError(
            f"{path!r} is a Keras file, which is only loaded as a whole; head=False is for published checkpoints. Load "
            "it into a model with the same classes, then call keras_vit.new_head(model, classes)."
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
