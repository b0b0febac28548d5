"""The one place where the training step of a model is changed.

A `StepOptions` object says what a step does besides Keras' own step, and `prepare_step` applies it to a model:
it removes what it applied before and sets every method again. The public functions `recompute`, `train_at_sizes`,
`distill` and `use_sam` each replace one option, so the order of their calls makes no difference.

Each option replaces other methods than the others do:

| option         | replaces                                                    |
|----------------|-------------------------------------------------------------|
| `recomputation`| `call` of each block                                        |
| `sizes`        | `call` and `input_spec` of the model                        |
| `distillation` | `compute_loss` and `compute_metrics` of the model           |
| `sam`          | `train_step` of the model                                   |

A train step calls `compute_loss` and the model, and the model calls its blocks, so the options are nested by Keras' own
order of calls. A replacement starts from the method of the class, never from another replacement.

Keras' own means were tried and don't suffice:

- `keras.RematScope` acts on layers that are created within it, so it can't change a model that exists. On the
  TensorFlow backend (Keras 3.15) no functional model can be built of such layers whose parts are called with keyword
  arguments such as `training`: `tf.recompute_grad` refuses them while it traces. And where it runs, the
  second pass updates random states and statistics of batch normalization once more.
- A subclass with a `train_step` would have to be chosen before the model is built: the functions of `keras_vit` return
  functional models. Assigning such a class to `model.__class__` is possible, but the saved file then names that class
  and can't be loaded elsewhere. Instance attributes are not saved, so a saved, loaded or cloned model is a plain one.
- A wrapper model has other variable paths and layers, and it is not the object that the user compiles and fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import keras

_ATTRIBUTE = "_keras_vit_step"  # Of a model: its `_PreparedStep`.


class Override(NamedTuple):
    """An attribute of a model or layer that gets another value."""

    owner: keras.layers.Layer
    name: str
    value: Any


class StepOption(Protocol):
    """One way to change a training step."""

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        """Yield what has to be replaced in the model, given all options of its step."""


@dataclass(frozen=True)
class StepOptions:
    """What a model's training step does besides Keras' own step. `None` means that the option is off.

    Attributes:
        recomputation: A `Recomputation`, see `recompute`.
        sizes: `Sizes` of this model, see `train_at_sizes`.
        distillation: A `Distillation`, see `distill`.
        sam: A `SAM`, see `use_sam`.
    """

    recomputation: StepOption | None = None
    sizes: Any = None
    distillation: StepOption | None = None
    sam: StepOption | None = None

    def active(self) -> list[StepOption]:
        """Return the options that are on."""
        options = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [option for option in options if option is not None]


class _PreparedStep:
    """The options of a model, and the overrides that they made. (Keras doesn't track the layers within.)"""

    def __init__(self, options: StepOptions, overrides: list[Override], input_spec):
        self.options = options
        self.overrides = overrides
        self.input_spec = input_spec  # The model's own.


def step_options(model: keras.Model) -> StepOptions:
    """Return the options of a model's training step."""
    prepared = vars(model).get(_ATTRIBUTE)
    return StepOptions() if prepared is None else prepared.options


def prepare_step(model: keras.Model, options: StepOptions) -> None:
    """Make a model's training step that of these options, whatever it was before.

    If an option refuses the model, the model keeps its former step. Compiled functions of the model are dropped.

    Args:
        model: The model. `StepOptions()` gives it back the plain step of its class.
        options: All options of the step.
    """
    overrides = [override for option in options.active() for override in option.overrides(model, options)]
    prepared = vars(model).get(_ATTRIBUTE)
    input_spec = model.input_spec if prepared is None else prepared.input_spec
    for owner, name, value in prepared.overrides if prepared is not None else ():
        if name == "input_spec":
            owner.input_spec = input_spec
        elif vars(owner).get(name) is value:  # Otherwise someone else replaced it since.
            delattr(owner, name)
    for owner, name, value in overrides:
        setattr(owner, name, value)
    # Not by setattr, which makes Keras look for layers and variables within.
    vars(model)[_ATTRIBUTE] = _PreparedStep(options, overrides, input_spec)
    model.train_function = model.test_function = model.predict_function = None


def change_step(model: keras.Model, **options: StepOption | None) -> None:
    """Replace some options of a model's training step, and keep the others."""
    prepare_step(model, dataclasses.replace(step_options(model), **options))


def restore_step(model: keras.Model) -> None:
    """Give a model back the plain training step of its class.

    This undoes `recompute`, `train_at_sizes`, `distill` and `use_sam`. Weights, optimizer and compilation stay.

    Args:
        model: Any model.
    """
    prepare_step(model, StepOptions())
