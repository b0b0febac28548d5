"""TensorFlow and Keras, imported when one of their attributes is first used.

Recipes are tables of augmentations and pipelines, and listing or printing them must not take the seconds of these
imports. A module that uses this needs `from __future__ import annotations`, since annotations are attributes too.
"""

import importlib
import types
from typing import TYPE_CHECKING


class LazyModule(types.ModuleType):
    """Stand for a module that is imported when an attribute of it is first read."""

    def __getattr__(self, name: str):
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras, tf = LazyModule("keras"), LazyModule("tensorflow")
