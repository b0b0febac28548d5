"""Register the package's classes with Keras as soon as Keras is imported, and not before.

Keras finds a class in a saved model only if the module that registers the class was imported. Importing those modules
in `import keras_vit` would also import Keras, which takes seconds. So they are imported right after Keras, no matter
what imports it.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call a function right after a module is first imported, or now if it is already imported.

    Args:
        name: Name of the module, such as "keras".
        action: Function without arguments.
    """
    if name in sys.modules:
        action()
        return
    for finder in sys.meta_path:
        if isinstance(finder, _After) and finder.name == name:
            finder.actions.append(action)
            return
    sys.meta_path.insert(0, _After(name, action))


class _After(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find a module with the other finders, load it with its own loader, and then call the actions.

    The finder removes itself from `sys.meta_path` at the first import of the module, so it affects no other import.
    """

    def __init__(self, name, action):
        self.name, self.actions = name, [action]

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
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
