"""The public names of keras_vit.training: imported when used, seen by editors, and enough to load saved models."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

from keras_vit import training

SOURCE = Path(training.__file__)


def names_for_type_checkers():
    """Name -> module of the imports under TYPE_CHECKING."""
    (block,) = (
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_type_checkers_see_the_names_that_are_there():
    checked = names_for_type_checkers()
    assert checked == training._MODULES
    assert sorted(checked) == sorted(training.__all__)
    assert set(training.__all__) <= set(dir(training))
    for name, module in checked.items():
        value = getattr(training, name)
        assert value is getattr(sys.modules[module], name)
        assert inspect.getmodule(value).__name__.startswith("keras_vit.training")


def test_no_name_is_that_of_a_module_beside_it():
    for package in (SOURCE.parent, *(path for path in SOURCE.parent.iterdir() if (path / "__init__.py").is_file())):
        modules = {path.stem for path in package.iterdir()} - {"__init__"}
        suffix = "" if package == SOURCE.parent else f".{package.name}"
        public = getattr(sys.modules.get(f"keras_vit.training{suffix}"), "__all__", ())
        assert not modules & set(public), package


# Names that are not there are named, and nothing is imported before it is used. keras_vit itself stands for a package
# that imports nothing.
PROGRAM = """
import importlib.machinery, importlib.util, json, sys, types
root, source = sys.argv[1:]
package = types.ModuleType("keras_vit")
package.__path__ = [root]
sys.modules["keras_vit"] = package
spec = importlib.util.spec_from_file_location("keras_vit.training", source, submodule_search_locations=[source[:-12]])
training = importlib.util.module_from_spec(spec)
sys.modules["keras_vit.training"] = training
spec.loader.exec_module(training)
training.Augmentation, training.Pipeline, training.image_folder, training.Hyperparameters
heavy = [name for name in ("keras", "tensorflow") if name in sys.modules]
try:
    training.nonsense
except AttributeError as error:
    print(json.dumps([heavy, str(error)]))
"""


def test_settings_of_recipes_import_neither_keras_nor_tensorflow():
    import keras_vit

    arguments = [sys.executable, "-c", PROGRAM, str(Path(keras_vit.__file__).parent), str(SOURCE)]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    heavy, message = json.loads(result.stdout)
    assert heavy == []
    assert message == "module 'keras_vit.training' has no attribute 'nonsense'"


def test_every_registered_class_is_registered_by_the_import():
    registering = {
        path.relative_to(SOURCE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in SOURCE.parent.rglob("*.py")
        if "@keras.saving.register_keras_serializable" in path.read_text()
    }
    registered = {
        alias.name.removeprefix("keras_vit.training.")
        for node in ast.parse((SOURCE.parent / "registered.py").read_text()).body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert registering == registered
