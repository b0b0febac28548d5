"""Read the weights that Keras saves, under the names that a model of keras_vit has for them.

In its files, Keras names a layer by its class and a number, such as "layers/transformer_block_3". So a file of a larger
model seems to contain a smaller one. The layer's own name, such as "block_3", is an attribute in the file, and this
module uses it. The names are those of `LoadReport`, with a number for the weight: "block_3.attention.query/0" is the
first weight of the layer "block_3.attention.query" in `keras_vit.flatten`.
"""

import contextlib
import io
import json
import os
import re
import zipfile
from collections import Counter

import h5py
import keras
import numpy as np

from keras_vit.models.families import families, module_of
from keras_vit.weights.layouts import Layout, from_bfloat16
from keras_vit.weights.naming import Naming

SUFFIXES = (".h5", ".hdf5", ".keras", ".weights.json")
PROJECT = "Keras"
_WEIGHTS_IN_ARCHIVE = "model.weights.h5"
# What a saved training contains besides the model. `training.fit` numbers the variables in its checkpoint.
_TRAINING_STATE = ("optimizer/", "metrics/")
_SEEDS = ("seed_generator_state", "seed_generator/0")
_NUMBERED = re.compile(r"^model/\d+/")


def read_keras(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a .keras, .weights.h5, .h5 or .weights.json file.

    Raises:
        ValueError: The file is damaged, or Keras did not write it.
    """
    try:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(h5py.File(part)) for part in _parts(path)]
            root = files[0].get("model_weights", files[0])
            return _legacy_arrays(root) if "layer_names" in root.attrs else _arrays(files)
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path!r} is truncated or not a file that Keras wrote: {error}") from error


def _parts(path):
    """Return the HDF5 files of a saved model. `model.save_weights(path, max_shard_size=...)` writes several."""
    if path.lower().endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return [io.BytesIO(archive.read(_WEIGHTS_IN_ARCHIVE))]
    if not path.lower().endswith(".json"):
        return [path]
    with open(path, encoding="utf-8") as index:
        listed = json.load(index)["weight_map"].values()
    names = {name for names in listed for name in ([names] if isinstance(names, str) else names)}
    return [os.path.join(os.path.dirname(path), os.path.basename(name)) for name in sorted(names)]


def _arrays(files):
    names, values = {}, {}

    def visit(path, item):  # h5py does not follow links here.
        *group, last = path.split("/")
        if hasattr(item, "shape"):
            values[tuple(group[:-1]), last] = _value(item)
        elif last == "vars" and "name" in item.attrs:
            names[tuple(group)] = str(item.attrs["name"])

    for file in files:
        file.visititems(visit)
    layers = {group: _layer(group, names) for group, _ in values} | {group: _layer(group, names) for group in names}
    if not any(layers.values()):
        raise ValueError("it contains no layers")
    count = Counter(layer[1] for layer in layers.values() if layer)
    arrays = {}
    for (group, weight), value in values.items():
        if layers[group] is None:
            arrays["/".join([*group, "vars", weight])] = value
        else:
            inside, name = layers[group]
            arrays[f"{inside if count[name] > 1 else ''}{name}/{weight}"] = value
    return arrays


def _layer(group, names):
    """Return the names of the models around a layer, each with a dot, and the layer's. None for what is not a layer."""
    if group[:1] != ("layers",) or len(group) < 2:
        return None
    inside, at = "", 2
    while group[at : at + 1] == ("layers",):
        inside += f"{names.get(group[:at], group[at - 1])}."
        at += 2
    return inside, ".".join([names.get(group[:at], group[at - 1]), *group[at:]])


def _legacy_arrays(root):
    """Return the arrays of the format that `model.save("model.h5")` writes, which names each weight by its path."""
    arrays = {}
    for layer in [*root.attrs["layer_names"], "top_level_model_weights"]:
        layer = layer.decode() if isinstance(layer, bytes) else layer
        for weight in root[layer].attrs.get("weight_names", ()) if layer in root else ():
            weight = weight.decode() if isinstance(weight, bytes) else weight
            arrays[weight.removesuffix(":0")] = _value(root[layer][weight])
    return arrays


def _value(dataset):
    if dataset.external:
        raise ValueError(f"{dataset.name!r} is stored in other files")
    return from_bfloat16(np.asarray(dataset))


def keras_naming(layers: dict[str, keras.layers.Layer]) -> Naming:
    """Return the naming of Keras' files for a model.

    It also covers files that hold the paths of Keras' variables, such as the checkpoint of a training run.

    Args:
        layers: The model's leaf layers with weights, by name.
    """
    numbered = {
        f"{leaf}/{key}": f"{leaf}/{variable.name}"
        for leaf, layer in layers.items()
        for key, variable in own_variables(layer).items()
    }

    def respell(arrays):
        return {numbered.get(name, _from_path(name)): array for name, array in arrays.items()}

    weights = {variable.name: variable.name for layer in layers.values() for variable in layer.weights}
    heads = {leaf: leaf for leaf in ("head", "head_dist")}
    return Naming(
        PROJECT,
        Layout("/", weights | {"kernel": "kernel", "bias": "bias"}, lambda array, layer, weight: array, _SEEDS),
        heads | {leaf: leaf for leaf in layers},
        may_be_unused=_TRAINING_STATE,
        unused_without_head=_parts_of_heads(),
        respell=respell,
        aliases=numbered,
    )


def _from_path(name):
    """Return the name of a weight in `LoadReport`, from the path of its variable, such as "block_3/norm1/gamma"."""
    name = _NUMBERED.sub("", name)
    if name.startswith(_TRAINING_STATE):
        return name
    layer, separator, weight = name.rpartition("/")
    return f"{layer.replace('/', '.')}{separator}{weight}"


def _parts_of_heads():
    """Return the beginnings of the names of the layers that all families count as a part of the classifier."""
    parts = [
        leaf
        for family in families()
        for naming in module_of(family, "weights").NAMINGS
        for leaf in naming.leaves
        if "{" not in leaf and f"{naming.place(leaf, '')}.".startswith(naming.unused_without_head)
    ]
    return tuple(f"{leaf}/" for leaf in dict.fromkeys(parts))


def own_variables(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return the variables that Keras saves for a layer itself, by their keys in the file.

    Variables of layers inside the layer are not among them, nor are values that the layer computes when it is saved.
    """
    store: dict[str, keras.Variable] = {}
    layer.save_own_variables(store)
    return {key: value for key, value in store.items() if any(value is variable for variable in layer.weights)}
