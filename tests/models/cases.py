"""What the suites over all families run on: each family's small forms and reference outputs.

`tests/models/<family>/forms.py` defines `FORMS`, by name the builder and the settings of a small model, `REFERENCES`,
the fixtures that the family is compared with, and `LAYERS`, its own layers of one input with their settings and an
input. No suite names a family.
"""

import importlib
import pkgutil
from dataclasses import dataclass, field

import keras
import numpy as np

import keras_vit
import tests.models

_random = np.random.default_rng(0)
TOKENS = _random.normal(size=(2, 5, 12)).astype("float32")
IMAGES = _random.normal(size=(2, 8, 12, 3)).astype("float32")


@dataclass(frozen=True)
class Reference:
    """A fixture, see tests/reference.py.

    Attributes:
        model: Registry name of the model.
        fixture: Name of the file in tests/fixtures.
        settings: Arguments of the model's function.
        slow: Whether the comparison is too large for the quick tests.
        tolerance: Largest error allowed, relative to the largest output.
    """

    model: str
    fixture: str
    settings: dict = field(default_factory=dict)
    slow: bool = False
    tolerance: float = 1e-4


def families() -> list[str]:
    """Return the names of the families with forms: folders beside this file."""
    folders = [found.name for found in pkgutil.iter_modules(tests.models.__path__) if found.ispkg]
    return sorted(folders)


def forms_of(family: str):
    """Return the module `forms` of a family's folder."""
    return importlib.import_module(f"tests.models.{family}.forms")


def all_forms() -> dict[str, tuple[str, dict]]:
    """Return builder and settings of each form of each family, by "family: form"."""
    return {f"{family}: {name}": form for family in families() for name, form in forms_of(family).FORMS.items()}


def build(form: str, **settings) -> keras.Model:
    """Return a form of `all_forms()` that gives logits of 5 classes, with random weights."""
    builder, given = all_forms()[form]
    model = getattr(keras_vit, builder)(**{"classes": 5, "classifier_activation": None, **given, **settings})
    randomize(model)
    return model


def randomize(model: keras.Model) -> None:
    """Give every weight a random value, none of them so small that a branch would not matter."""
    random = np.random.default_rng(1)
    for variable in model.weights:
        values = random.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(1 + 0.4 * np.tanh(values))
        elif len(variable.shape) > 1 and variable.name not in ("tokens", "token", "table"):
            inputs = variable.shape[:2] if "depthwise" in variable.path else variable.shape[:-1]
            variable.assign(values * np.prod(inputs) ** -0.5)
        else:
            variable.assign(values * 0.2)


def images_of(model: keras.Model, count: int = 3) -> np.ndarray:
    """Return random images as a model takes them."""
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")
