"""The writers: for each class of layers or operations, a function that adds its ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_vit.edge.onnx.builder import OnnxBuilder
from keras_vit.edge.onnx.program import Tensor
from keras_vit.graph.flattening import leaves

Writer = Callable[..., Any]
_WRITERS: dict[type, Writer] = {}


def register_onnx_writer(*classes: type) -> Callable[[Writer], Writer]:
    """Return a decorator that registers how layers of your own are written to ONNX files.

    The decorated function takes an `OnnxBuilder`, the layer, and what the layer is called with, with tensors of the
    builder in place of Keras tensors. It returns the tensor that the layer gives:

    ```
    @edge.register_onnx_writer(MyErf)
    def write(build, layer, x):
        return build.op("Erf", x)
    ```

    Args:
        classes: The classes of layers. A subclass needs a writer of its own.

    Raises:
        TypeError: One of them is not a class of Keras layers or operations.
    """
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, keras.Operation)):
            raise TypeError(f"register_onnx_writer takes classes of Keras layers; received {each!r}.")

    def register(writer: Writer) -> Writer:
        _WRITERS.update(dict.fromkeys(classes, writer))
        return writer

    return register


def check_no_lambda(model: keras.Model) -> None:
    """Check that a model has no Lambda layer, which can be neither copied nor written.

    Raises:
        ValueError: It has one.
    """
    for name, layer in leaves(model):
        if isinstance(layer, keras.layers.Lambda):
            raise ValueError(
                f"There is no ONNX writer for the layer {name!r} of class Lambda; make its function a layer class of "
                "its own, and register a writer for that class with keras_vit.edge.register_onnx_writer."
            )


def write_call(build: OnnxBuilder, operation: keras.Operation, args: tuple, kwargs: dict) -> list[Tensor]:
    """Add the operators of one call of a layer or operation, and return what it gives.

    Raises:
        ValueError: There is no writer for its class.
    """
    writer = _WRITERS.get(type(operation))
    if writer is None:
        raise ValueError(
            f"There is no ONNX writer for the layer {operation.name!r} of class {type(operation).__name__}; register "
            "one with keras_vit.edge.register_onnx_writer."
        )
    # Keras gives plain operations other numbers in each copy of a model, but the same model must give the same file.
    name = operation.name if isinstance(operation, keras.layers.Layer) else type(operation).__name__
    with build.layer(name):
        return [build.tensor(each) for each in keras.tree.flatten(writer(build, operation, *args, **kwargs))]
