"""Any model as a flat graph of leaf layers: the form that folding, quantization, export and the look inside share."""

from collections.abc import Iterator

import keras

from keras_vit.graph.rebuilding import copy, copy_weights, not_compiled
from keras_vit.layers.composite import Composite, opened


def leaves(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Every leaf layer of a model with the name it has in `flatten(model)`, such as "block_0.attention.query"."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield from _leaves_below(layer, layer.name)


def _leaves_below(layer, name):
    if not isinstance(layer, Composite):
        yield name, layer
        return
    for attribute, part in layer.parts().items():
        yield from _leaves_below(part, f"{name}.{attribute}")


def flatten(model: keras.Model) -> keras.Model:
    """A copy of a model in which every composite layer is replaced by its leaves.

    Args:
        model: A functional or sequential model of any layers; composites of keras_vit are opened, others stay whole.

    Returns:
        A functional model with the same outputs and weights, whose layers are named by their place, such as
        "block_0.attention.query". Training it leaves the original alone.
    """

    flat = opened_up(model)
    copy_weights(dict(leaves(model)), flat)
    return flat


def opened_up(model: keras.Model) -> keras.Model:
    """`flatten` without the weights: they are new."""

    def call(layer, *args, **kwargs):
        return (layer.call if isinstance(layer, keras.Model) else layer)(*args, **kwargs)

    with opened():
        return keras.models.clone_model(
            not_compiled(model), clone_function=_copy_named_by_place, call_function=call, recursive=True
        )


def _copy_named_by_place(layer):
    duplicate = copy(layer)
    _name_parts(duplicate)
    return duplicate


def _name_parts(layer):
    if isinstance(layer, Composite):
        for attribute, part in layer.parts().items():
            part.name = f"{layer.name}.{attribute}"
            _name_parts(part)


def weighted_leaves(model):
    return [(name, layer) for name, layer in leaves(model) if layer.weights]
