"""The small forms and the reference outputs of each family, which the suites over all families use.

`tests/models/<family>/forms.py` defines `FORMS`, the builder and the settings of small models by name; `REFERENCES`,
the fixtures that the family is compared with; and `LAYERS`, the family's own layers with one input, each with its
settings and an input. If 20 dB are too much to expect of a
family, `INT8_SNR_DB` is the smallest signal-to-noise ratio of an int8 file. `WITHOUT_EFFECT` has the beginnings of the
paths of weights on which the outputs of the first form do not depend, and `IN_FLOAT` the layers that cannot compute in
integers. No suite names a family.
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
    """A fixture; see tests/reference.py.

    Attributes:
        model: Registry name of the model.
        fixture: Name of the file in tests/fixtures, without its suffix.
        settings: Arguments of the model's function.
        slow: Whether the comparison takes too long for the quick tests.
        tolerance: Largest allowed error, relative to the largest output.
    """

    model: str
    fixture: str
    settings: dict = field(default_factory=dict)
    slow: bool = False
    tolerance: float = 1e-4


def families() -> list[str]:
    """Return the names of the families with forms, which are folders beside this file."""
    folders = [found.name for found in pkgutil.iter_modules(tests.models.__path__) if found.ispkg]
    return sorted(folders)


def forms_of(family: str):
    """Return the module `forms` of a family's folder."""
    return importlib.import_module(f"tests.models.{family}.forms")


def all_forms() -> dict[str, tuple[str, dict]]:
    """Return the builder and the settings of each form of each family, by "family: form"."""
    return {f"{family}: {name}": form for family in families() for name, form in forms_of(family).FORMS.items()}


def build(form: str, **settings) -> keras.Model:
    """Build a form of `all_forms()` that returns logits of 5 classes, with random weights."""
    builder, given = all_forms()[form]
    model = getattr(keras_vit, builder)(**{"classes": 5, "classifier_activation": None, **given, **settings})
    randomize(model)
    return model


def randomize(model: keras.Model) -> None:
    """Set every weight to a random value that is large enough for each branch to matter."""
    random = np.random.default_rng(1)
    for variable in model.weights:
        values = random.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(1 + 0.2 * np.tanh(values))
        elif len(variable.shape) > 1 and variable.name not in ("tokens", "token", "table"):
            inputs = variable.shape[:2] if "depthwise" in variable.path else variable.shape[:-1]
            variable.assign(0.7 * values * np.prod(inputs) ** -0.5)
        else:
            variable.assign(values * 0.2)


def images_of(model: keras.Model, count: int = 3) -> np.ndarray:
    """Return random images for a model."""
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")
