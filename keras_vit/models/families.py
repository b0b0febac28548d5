"""Find the families: the folders beside this file, each with a `variants.py`. This module does not import Keras."""

import functools
import importlib
import pkgutil

import keras_vit.models
from keras_vit.models.family import Family


@functools.cache
def families() -> dict[str, Family]:
    """Return the `Family` of each family's folder, by the folder's name, sorted."""
    folders = sorted(found.name for found in pkgutil.iter_modules(keras_vit.models.__path__) if found.ispkg)
    return {folder: module_of(folder, "variants").FAMILY for folder in folders}


def module_of(family: str, module: str):
    """Import and return a module of a family's folder."""
    return importlib.import_module(f"keras_vit.models.{family}.{module}")


def import_every_family() -> None:
    """Import all builders, and with them all layers, so that Keras finds the classes of every saved model."""
    for name, family in families().items():
        for module in set(family.functions.values()):
            module_of(name, module)
