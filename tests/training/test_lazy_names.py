"""Check that the names of keras_vit.training are imported on first use, visible to editors, and load saved models."""

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
    """Return the names imported under TYPE_CHECKING, and the modules that they are imported from."""
    (block,) = (
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_type_checkers_see_all_public_names():
    checked = names_for_type_checkers()
    assert checked == training._MODULES
    assert sorted(checked) == sorted(training.__all__)
    assert set(training.__all__) <= set(dir(training))
    for name, module in checked.items():
        value = getattr(training, name)
        assert value is getattr(sys.modules[module], name)
        home = "keras_vit.models.image_facts" if name == "Statistics" else "keras_vit.training"
        assert inspect.getmodule(value).__name__.startswith(home)


def test_no_public_name_is_also_the_name_of_a_module():
    for package in (SOURCE.parent, *(path for path in SOURCE.parent.iterdir() if (path / "__init__.py").is_file())):
        modules = {path.stem for path in package.iterdir()} - {"__init__"}
        suffix = "" if package == SOURCE.parent else f".{package.name}"
        public = getattr(sys.modules.get(f"keras_vit.training{suffix}"), "__all__", ())
        assert not modules & set(public), package


# The calls that a command needs to list and print recipes.
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
def test_importing_the_package_is_enough_to_load_a_saved_optimizer_and_loss(order, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile(training.optimizer("soap", model, training.Cosine(0.1, 10)), training.SigmoidCrossentropy())
    model.save(tmp_path / "model.keras")
    script = f"{order}; print(type(keras.models.load_model('model.keras').optimizer).__name__)"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "SOAP\n", result.stderr[-2000:]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module .keras_vit\.training. has no attribute 'nonsense'"):
        training.nonsense  # noqa: B018


def test_importing_the_package_registers_every_serializable_class():
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
