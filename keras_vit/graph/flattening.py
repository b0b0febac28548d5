"""Any model as a flat functional model of leaf layers, the form that fusing, quantization and export share."""

from collections.abc import Iterator

import keras

from keras_vit.graph.flat_graph import Graph
from keras_vit.graph.places import places


def leaves(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield every leaf layer of a model with the name it has in `flatten(model)`, such as "block_0.attention.query"."""
    for name, layer, _ in places(model):
        yield name, layer


def weighted_leaves(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Return the `leaves` that have weights."""
    return [(name, layer) for name, layer in leaves(model) if layer.weights]


def flatten(model: keras.Model) -> keras.Model:
    """Return a copy of a model in which every composite layer is replaced by its leaf layers.

    Args:
        model: A functional or sequential model of any layers. Composite layers of keras_vit and models inside the model
            are opened; other layers stay whole.

    Returns:
        A functional model with the same outputs and weights, not compiled. Its layers are named by their place, such as
        "block_0.attention.query"; layers of a model inside have its name in front where theirs occurs twice. What was
        frozen is frozen. Training the copy leaves the original alone.

    Raises:
        TypeError: The model is neither functional nor sequential.
    """
    return Graph(model).build()
