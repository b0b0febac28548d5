"""The loss and the metrics of a model that is not a classifier with one class per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_vit.training.objectives.losses import SigmoidCrossentropy

# The losses of a classifier, which `fit` makes from its hyperparameters.
_OF_CLASSIFIERS = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
    SigmoidCrossentropy,
)


@dataclass(frozen=True)
class Objective:
    """What a model is compiled with, apart from its optimizer. The attributes are arguments of `compile`."""

    loss: Any
    loss_weights: Any = None
    metrics: Any = None
    weighted_metrics: Any = None

    @property
    def names(self) -> Any:
        """The name of the loss, or the names in its structure, as JSON types."""
        return _names(self.loss)

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Compile a model with this."""
        model.compile(
            optimizer,
            self.loss,
            loss_weights=self.loss_weights,
            metrics=self.metrics,
            weighted_metrics=self.weighted_metrics,
        )


def own_objective(
    model: keras.Model, loss: str | keras.losses.Loss | Callable | None, metrics: Sequence | None
) -> Objective | None:
    """Return the loss and metrics that were given or that a model is compiled with; None for those of a classifier.

    Args:
        model: The model. If it is compiled with a cross-entropy over classes, it is a classifier.
        loss: The loss that was given, or None.
        metrics: The metrics that were given, or None.
    """
    if loss is not None:
        return Objective(loss, metrics=metrics)
    compiled = getattr(model, "loss", None) if model.compiled else None
    if compiled is None or _is_of_a_classifier(compiled):
        return None
    theirs = model._compile_metrics
    return Objective(
        compiled,
        model._compile_loss._user_loss_weights,
        metrics or (theirs and theirs._user_metrics),
        theirs and theirs._user_weighted_metrics,
    )


def _is_of_a_classifier(loss) -> bool:
    try:
        made = keras.losses.get(loss) if isinstance(loss, str) else loss
    except ValueError:
        return False
    functions = (keras.losses.categorical_crossentropy, keras.losses.sparse_categorical_crossentropy)
    return isinstance(made, _OF_CLASSIFIERS) or made in functions


def _names(loss):
    if isinstance(loss, Mapping):
        return {str(key): _names(value) for key, value in loss.items()}
    if isinstance(loss, list | tuple):
        return [_names(value) for value in loss]
    return loss if isinstance(loss, str | None) else getattr(loss, "name", None) or getattr(loss, "__name__", str(loss))
