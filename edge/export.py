"""From a Keras model to a TFLite (LiteRT) file."""

import os
import tempfile

import keras
import tensorflow as tf

from keras_vit.edge.int8_file import quantize_dynamically, quantize_operations
from keras_vit.edge.quantize import int8_operations, is_quantized, quantize_aware, without_ranges
from keras_vit.files import replacing
from keras_vit.fusion import fuse
from keras_vit.graph import rebuild

PRECISIONS = ("float32", "float16", "dynamic_int8", "hybrid_int8")


def export(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str = "float32",
    *,
    calibration_data=None,
) -> str:
    """Writes a model as a .tflite file with a batch of one image and static shapes.

    Args:
        model: A functional float model, or what `quantize_aware` made of one. It is folded first (`keras_vit.fuse`).
        path: The file to write, ending in ".tflite". It appears whole or not at all.
        precision: "float32"; "float16" (weights stored in float16, computed in float32); "dynamic_int8" (int8 weights,
            activations rounded as they come); "hybrid_int8" (products in int8 with fixed ranges, the rest in float).
        calibration_data: Images, for "hybrid_int8" of a float model; see `quantize_aware`.

    Returns:
        The path.
    """
    path = os.fspath(path)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {PRECISIONS}; received {precision!r}.")
    if not path.endswith(".tflite"):
        raise ValueError(f"The file's name ends in .tflite; received {path!r}.")
    if precision == "hybrid_int8" and not is_quantized(model):
        if calibration_data is None:
            raise ValueError(
                "hybrid_int8 needs the ranges of the activations: give calibration_data (images as in training), or a "
                "model from keras_vit.edge.quantize_aware."
            )
        model = quantize_aware(model, calibration_data=calibration_data)

    if precision == "hybrid_int8":
        content = quantize_operations(_convert(without_ranges(model, kernels_on_grid=True)), int8_operations(model))
    else:
        floats = without_ranges(model, kernels_on_grid=False) if is_quantized(model) else fuse(model)
        content = _convert(floats, half_weights=precision == "float16")
        if precision == "dynamic_int8":
            content = quantize_dynamically(content)
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


class _GroupedConv2D(keras.layers.Conv2D):
    """Keras computes a grouped convolution inside a compiled function, in which the layer's name is lost."""

    def convolution_op(self, inputs, kernel):
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


def _convert(flat: keras.Model, half_weights: bool = False) -> bytes:
    """A float TFLite file. `ExportArchive` freezes the variables, which a concrete function would leave in the file."""

    def make(layer):
        grouped = type(layer) is keras.layers.Conv2D and layer.groups > 1
        return (_GroupedConv2D if grouped else type(layer)).from_config(layer.get_config())

    flat = rebuild(flat, make)
    shape = flat.input_shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(flat)
        archive.add_endpoint(
            "serve",
            lambda image: flat(image, training=False),
            input_signature=[tf.TensorSpec((1, *shape), flat.inputs[0].dtype, name="image")],
        )
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if half_weights:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
