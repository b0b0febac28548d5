"""Importing what Keras must know of as soon as Keras is in use, and not before.

Keras finds a class in a saved model only if the module that registers it was imported. Importing those modules with
`import keras_vit` would import Keras, which takes seconds; so they are imported right after Keras, whoever imports it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable


def when_keras_is_imported(action: Callable[[], None]) -> None:
    """Call a function once Keras is imported: now if it is already, else right after `import keras`.

    Args:
        action: Takes no arguments; it imports modules that register classes with Keras.
    """
    if "keras" in sys.modules:
        action()
        return
    for finder in sys.meta_path:
        if isinstance(finder, _AfterKeras):
            finder.actions.append(action)
            return
    sys.meta_path.insert(0, _AfterKeras(action))


class _AfterKeras(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds Keras with the other finders, loads it with its own loader, and then calls the actions.

    It removes itself from `sys.meta_path` at the first import of Keras, so that nothing else ever passes through it.
    """

    def __init__(self, action):
        self.actions = [action]

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is None or spec.loader is None:
            return spec
        self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        for action in self.actions:
            action()
