"""The names of a model's classes, which are saved with the model."""

from collections.abc import Sequence

import keras

from keras_vit.layers import Preprocessing


def class_names(model: keras.Model) -> tuple[str, ...] | None:
    """Return the names of a model's classes in the order of its scores, or None if it does not know them.

    `keras_vit.training.fit` gives a model the class names of its data. A model of keras_vit, or one that contains such
    a model, keeps them when it is saved, flattened, fused, resized or quantized; `new_head` drops them.

    Args:
        model: A model of keras_vit, or a model that contains one.
    """
    scores = {tuple(output.shape)[-1] for output in getattr(model, "outputs", None) or ()}
    for layer in _carriers(model):
        if layer.class_names is not None and scores == {len(layer.class_names)}:
            return layer.class_names
    return None


def set_class_names(model: keras.Model, names: Sequence[str] | None) -> None:
    """Store the names of a model's classes in the model, to be saved with it.

    A model without any part of keras_vit has no place for them and stays as it is.

    Args:
        model: The model.
        names: The names in the order of the model's scores, or None to drop them.

    Raises:
        ValueError: The names are not as many as the scores, or two of them are equal.
    """
    if names is not None:
        names = tuple(map(str, names))
        shapes = [tuple(output.shape) for output in getattr(model, "outputs", None) or ()]
        if any(shape[-1] != len(names) for shape in shapes):
            raise ValueError(
                f"{model.name!r} returns scores of shape {', '.join(map(str, shapes))}, so it must have as many class "
                f"names; received {len(names)}."
            )
        if len(set(names)) < len(names):
            raise ValueError(f"Class names must differ; received {names}.")
    for layer in _carriers(model):
        layer.class_names = names


def _carriers(model) -> list[Preprocessing]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, Preprocessing)]
