"""Register the package's classes with Keras as soon as Keras is imported, and not before.

Keras finds a class in a saved model only if the module that registers the class was imported. Importing those modules
in `import keras_vit` would also import Keras, which takes seconds. So they are imported right after Keras, no matter
what imports it. If one of the package's own modules does, they wait until that module is complete, because some of them
import it.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable

_PACKAGE = __name__.partition(".")[0]


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call a function after a module is first imported, or now if it is already imported.

    If one of this package's modules is what imports it, the function is called after that one, before the next import.

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


def finish_waiting() -> None:
    """Call the functions that wait for a module of this package to be complete, if it is."""
    for finder in list(sys.meta_path):
        if isinstance(finder, _After):
            finder.finish()


class _After(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find a module with the other finders, load it with its own loader, and then call the actions.

    The finder removes itself from `sys.meta_path` as soon as it has called the actions.
    """

    def __init__(self, name, action):
        self.name, self.actions = name, [action]
        self._loader = None
        self._loaded = False

    def find_spec(self, fullname, path=None, target=None):
        self.finish()
        if fullname != self.name or self._loader is not None:
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
        self._loaded = True
        sys.meta_path.insert(0, self)
        self.finish()

    def finish(self):
        """Call the actions if they are due."""
        if self._loaded and not _is_importing():
            self._loaded = False
            sys.meta_path.remove(self)
            for action in self.actions:
                action()


def _is_importing() -> bool:
    """Return whether a module of this package is being imported."""
    return any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == _PACKAGE
    )
