"""Activations that Keras has no name for."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit", name="gelu_tanh")
def gelu_tanh(x):
    """The tanh form of GELU (Hendrycks and Gimpel, arXiv 1606.08415, section 2), the default of JAX."""
    return ops.gelu(x, approximate=True)


def activation(name: str):
    """What `keras.layers.Activation` takes for a name, which may be Keras' own or one of this file's."""
    return {"gelu_tanh": gelu_tanh}.get(name, name)
