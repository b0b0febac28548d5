"""Change the training step of a model. This is the only module that does so.

A `StepOptions` object describes the changes to Keras' own training step. `prepare_step` applies it to a model: it
removes all earlier changes, then makes all changes again. The public functions `recompute`, `train_at_sizes`, `distill`
and `use_sam` each set one option, so the order in which they are called does not matter.

Each option replaces different methods:

| option         | replaces                                                    |
|----------------|-------------------------------------------------------------|
| `recomputation`| `call` of each block                                        |
| `sizes`        | `call` and `input_spec` of the model                        |
| `distillation` | `compute_loss` and `compute_metrics` of the model           |
| `sam`          | `train_step` of the model                                   |

A training step calls the model and `compute_loss`, and the model calls its blocks, so the options combine through
Keras' own calls. A replacement always calls the method of the class, never another replacement.

We tried the alternatives that Keras offers, and they are not sufficient:

- `keras.RematScope` only affects layers that are created within it, so it can't change an existing model. On the
  TensorFlow backend (Keras 3.15), a functional model can't be built from such layers if their parts are called with
  keyword arguments such as `training`, because `tf.recompute_grad` rejects them during tracing. And if it does work,
  the second pass updates random states and the statistics of batch normalization again.
- A subclass with its own `train_step` would have to be chosen before the model is built, but the functions of
  `keras_vit` return functional models. Assigning such a class to `model.__class__` is possible, but the saved file
  would then refer to that class and could not be loaded elsewhere. Instance attributes are not saved, so a saved,
  loaded or cloned model is an ordinary one.
- A wrapper model has different variable paths and layers, and it is not the object that the user compiles and fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import keras

_ATTRIBUTE = "_keras_vit_step"  # The attribute of a model that contains its `_PreparedStep`.


class Override(NamedTuple):
    """A new value for an attribute of a model or layer."""

    owner: keras.layers.Layer
    name: str
    value: Any


class StepOption(Protocol):
    """A change to a training step."""

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        """Yield the attributes of the model and its layers to replace, given all options of its step."""


@dataclass(frozen=True)
class StepOptions:
    """The changes to Keras' own training step. None means that an option is off.

    Attributes:
        recomputation: A `Recomputation`, see `recompute`.
        sizes: The `Sizes` of the model, see `train_at_sizes`.
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
    """The options of a model's training step, and the overrides that they made."""

    def __init__(self, options: StepOptions, overrides: list[Override], input_spec):
        self.options = options
        self.overrides = overrides
        self.input_spec = input_spec  # The original one of the model.


def step_options(model: keras.Model) -> StepOptions:
    """Return the options of a model's training step."""
    prepared = vars(model).get(_ATTRIBUTE)
    return StepOptions() if prepared is None else prepared.options


def prepare_step(model: keras.Model, options: StepOptions) -> None:
    """Set the options of a model's training step, replacing all earlier ones.

    If an option raises an error, the model keeps its current step. The compiled functions of the model are discarded.

    Args:
        model: The model.
        options: All options of the step. `StepOptions()` restores the training step of the model's class.
    """
    overrides = [override for option in options.active() for override in option.overrides(model, options)]
    prepared = vars(model).get(_ATTRIBUTE)
    input_spec = model.input_spec if prepared is None else prepared.input_spec
    for owner, name, value in prepared.overrides if prepared is not None else ():
        if name == "input_spec":
            owner.input_spec = input_spec
        elif vars(owner).get(name) is value:  # Otherwise, other code has replaced it since.
            delattr(owner, name)
    for owner, name, value in overrides:
        setattr(owner, name, value)
    # Bypass setattr, so that Keras does not track the layers and variables within.
    vars(model)[_ATTRIBUTE] = _PreparedStep(options, overrides, input_spec)
    model.train_function = model.test_function = model.predict_function = None


def change_step(model: keras.Model, **options: StepOption | None) -> None:
    """Change some options of a model's training step, and keep the others."""
    prepare_step(model, dataclasses.replace(step_options(model), **options))


def restore_step(model: keras.Model) -> None:
    """Restore the training step of the model's class.

    This undoes `recompute`, `train_at_sizes`, `distill` and `use_sam`. The weights, the optimizer and the settings of
    `compile` do not change.

    Args:
        model: A model.
    """
    prepare_step(model, StepOptions())
