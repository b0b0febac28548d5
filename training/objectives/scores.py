"""Find out whether a model gives logits or probabilities."""

import keras


def gives_logits(model: keras.Model) -> bool:
    """Return whether a model's scores are logits (True) or probabilities (False), by its last operation.

    Raises:
        ValueError: The last operation is neither a softmax nor a layer with weights and no activation, or the
            model is neither functional nor sequential and does not say which its last one is.
    """
    # A functional model's operations are in the order of computation; its `layers` lack those of keras.ops.
    operations = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", ())
    for last in reversed(operations):
        if isinstance(last, keras.Model):
            return gives_logits(last)
        activation = getattr(last, "activation", None)
        if activation is keras.activations.softmax or type(last).__name__ == "Softmax":
            return False
        if activation is not keras.activations.linear:
            break
        if last.weights:
            return True
    raise ValueError(
        f"The last operation of {model.name} does not tell whether its scores are logits or probabilities; "
        "pass from_logits=True or from_logits=False."
    )
