"""A model whose inner models are opened, but not its composites, as inspection looks at it."""

from collections import Counter
from collections.abc import Iterator

import keras

from keras_vit.graph.flat_graph import call_leaves, input_like
from keras_vit.graph.places import is_opened
from keras_vit.graph.reading import as_functional


def without_inner_models(model: keras.Model) -> keras.Model:
    """Return a model with the layers of the models inside it as its own. It shares all layers with the model.

    Args:
        model: A functional or sequential model; it is returned as a functional one if no model is inside it.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: Two of the models inside have a layer of the same name.
    """
    model = as_functional(model)
    inner = [layer for layer in model.layers if is_opened(layer)]
    if not inner:
        return model
    count = Counter(layer.name for layer in _layers(model))
    if twice := [name for name, times in count.items() if times > 1]:
        raise ValueError(
            f"The models inside {model.name!r} have more than one layer {twice[0]!r}. Pass one of these models, such "
            f"as model.get_layer({inner[0].name!r})."
        )
    inputs = keras.tree.map_structure(input_like, model.input)
    return keras.Model(inputs, call_leaves(model, inputs), name=model.name)


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if is_opened(layer):
            yield from _layers(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer
