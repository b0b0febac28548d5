"""Determine whether a model returns logits or probabilities."""

import keras

from keras_vit.graph.reading import SOFTMAXES


def gives_logits(model: keras.Model) -> bool:
    """Return whether the scores of a model are logits (True) or probabilities (False).

    Args:
        model: A functional or sequential model. Its last operation decides: a softmax gives probabilities, and a layer
            with weights and without an activation gives logits. A layer whose class declares `rounds = True` gives what
            it takes, except for rounding.

    Raises:
        ValueError: If the last operation is neither of these, or the model is neither functional nor sequential.
    """
    # A functional model lists its operations in execution order. Its `layers` do not contain calls of keras.ops.
    operations = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", ())
    for last in reversed(operations):
        if isinstance(last, keras.Model):
            return gives_logits(last)
        if getattr(type(last), "rounds", False):
            continue
        activation = getattr(last, "activation", None)
        if activation is keras.activations.softmax or isinstance(last, SOFTMAXES):
            return False
        if activation is not keras.activations.linear:
            break
        if last.weights:
            return True
    raise ValueError(
        f"The last operation of {model.name} does not determine whether its scores are logits or probabilities; "
        "pass from_logits=True or from_logits=False."
    )
