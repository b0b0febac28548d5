"""Where each leaf layer of a model is, and what it is called there."""

from collections import Counter
from collections.abc import Iterator

import keras

from keras_vit.graph.reading import as_functional
from keras_vit.layers.composite import Composite, parts_below


def places(model: keras.Model) -> list[tuple[str, keras.layers.Layer, bool]]:
    """Return every leaf layer of a model with its name in the flat model and whether it is trained there.

    The name is the path of attributes, such as "block_0.attention.query". A layer of a model inside the model has that
    model's name in front only if its own name occurs more than once. A layer is trained if nothing that it is part of
    is frozen.
    """
    found = {}  # By id, since a layer can be shared: the name of the models around it, its own, the layer.
    for inside, name, layer, trainable in _below(model, "", True):
        found.setdefault(id(layer), (inside, name, layer, trainable))
    count = Counter(name for _, name, _, _ in found.values())
    named = [(inside + name if count[name] > 1 else name, *rest) for inside, name, *rest in found.values()]
    twice = [name for name, times in Counter(name for name, *_ in named).items() if times > 1]
    if twice:
        raise ValueError(
            f"{model.name!r} cannot be flattened: {twice[0]!r} would be the name of two of its layers. Rename one of "
            "them, or one of the models inside that hold them."
        )
    return named


def operations_below(model: keras.Model) -> Iterator[keras.Operation]:
    """Yield every layer and operation of a model, of the models inside it, and of its composites."""
    for operation in as_functional(model).operations:
        yield operation
        if is_opened(operation):
            yield from operations_below(operation)
        elif isinstance(operation, Composite):
            yield from (part for _, part, _ in parts_below(operation))


def is_opened(operation: keras.Operation) -> bool:
    """Whether an operation is a model whose layers can be seen."""
    return isinstance(operation, keras.Model) and (
        isinstance(operation, keras.Sequential) or hasattr(operation, "operations")
    )


def _below(model, inside, trainable):
    for layer in model.layers:
        if is_opened(layer):
            yield from _below(layer, f"{inside}{layer.name}.", trainable and layer.trainable)
        else:
            for name, leaf, trained in _leaves_below(layer, layer.name, trainable):
                yield inside, name, leaf, trained


def _leaves_below(layer, name, trainable):
    trainable = trainable and layer.trainable
    if not isinstance(layer, Composite):
        yield name, layer, trainable
        return
    for attribute, part in layer.parts().items():
        yield from _leaves_below(part, f"{name}.{attribute}", trainable)
