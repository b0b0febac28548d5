"""The public names of keras_vit.training: imported when used, seen by editors, and enough to load saved models."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

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


# What a command needs to list and print recipes.
PROGRAM = """
import json, sys
from keras_vit import training
recipes = [str(training.recipe(name)) for name in training.list_recipes()]
assert len(recipes) > 100 and all("hyperparameters.learning_rate" in text for text in recipes)
print(json.dumps([name for name in ("keras", "tensorflow") if name in sys.modules]))
"""


def test_recipes_import_neither_keras_nor_tensorflow():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout) == []


@pytest.mark.parametrize("order", ["import keras, keras_vit.training", "import keras_vit.training, keras"])
def test_a_saved_optimizer_and_loss_are_found_by_the_import_alone(order, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile(training.optimizer("soap", model, training.Cosine(0.1, 10)), training.SigmoidCrossentropy())
    model.save(tmp_path / "model.keras")
    script = f"{order}; print(type(keras.models.load_model('model.keras').optimizer).__name__)"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "SOAP\n", result.stderr[-2000:]


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"module .keras_vit\.training. has no attribute 'nonsense'"):
        training.nonsense  # noqa: B018


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
