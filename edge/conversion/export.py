"""From a Keras model to a TFLite (LiteRT) file."""

import gc
import os
import tempfile
from typing import Any

import keras
import tensorflow as tf

from keras_vit.edge.conversion.int8_file import quantize_dynamically, quantize_operations
from keras_vit.edge.quantization.quantize import int8_operations, is_quantized, quantize_aware, without_ranges
from keras_vit.graph.fusion import fuse
from keras_vit.graph.rebuilding import rebuild
from keras_vit.utils.files import replacing

PRECISIONS = ("float32", "float16", "dynamic_int8", "hybrid_int8")


def export(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str = "float32",
    *,
    calibration_data: Any = None,
) -> str:
    """Writes a model as a .tflite file with a batch of one image and static shapes.

    Args:
        model: A functional float model, or what `quantize_aware` made of one. It is folded first (`keras_vit.fuse`).
        path: The file to write, ending in ".tflite". It appears whole or not at all.
        precision: "float32"; "float16" (weights stored in float16, computed in float32); "dynamic_int8" (int8 weights
            where it pays, activations rounded as they come); "hybrid_int8" (products in int8 with fixed ranges, others
            in float).
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

    int8 = precision == "hybrid_int8"
    layers = int8_operations(model) if int8 else None
    with tempfile.TemporaryDirectory() as folder:
        _save(without_ranges(model, kernels_on_grid=int8) if is_quantized(model) else fuse(model), folder)
        del model
        # Keras models are full of cycles: without this the copies just made stay in memory beside the converter's.
        gc.collect()
        content = _convert(folder, half_weights=precision == "float16")
    if int8:
        content = quantize_operations(content, layers)
    elif precision == "dynamic_int8":
        content = quantize_dynamically(content)
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


class _GroupedConv2D(keras.layers.Conv2D):
    """Keras computes a grouped convolution inside a compiled function, in which the layer's name is lost."""

    def convolution_op(self, inputs, kernel):
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


def _save(flat: keras.Model, folder: str) -> None:
    """A SavedModel of one image. `ExportArchive` lets the converter freeze variables, as a function alone would not."""

    def make(layer):
        grouped = type(layer) is keras.layers.Conv2D and layer.groups > 1
        return (_GroupedConv2D if grouped else type(layer)).from_config(layer.get_config())

    flat = rebuild(flat, make)
    shape = flat.input_shape[1:]
    archive = keras.export.ExportArchive()
    archive.track(flat)
    archive.add_endpoint(
        "serve",
        lambda image: flat(image, training=False),
        input_signature=[tf.TensorSpec((1, *shape), flat.inputs[0].dtype, name="image")],
    )
    archive.write_out(folder, verbose=False)


def _convert(folder: str, half_weights: bool = False) -> bytes:
    """The TFLite file of a SavedModel, in float."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    # Both cost copies of the weights, and nothing reads them: a note on how the file was made, and the model as
    # TensorFlow loads it, which the converter reads from the folder once more.
    converter.exclude_conversion_metadata = True
    converter._trackable_obj = None
    gc.collect()
    if half_weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
