"""The `keras-vit export` command."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from keras_vit.cli.common import IMAGES_HELP, MODEL_HELP, load_images, load_model, status

if TYPE_CHECKING:
    import keras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("output", metavar="OUTPUT", help="the .tflite or .onnx file to write")
    parser.add_argument(
        "--precision",
        help="float32, float16, int8_weights, int4_weights, dynamic_int8, hybrid_int8, symmetric_int8, full_int8 or "
        "int8_int16 (default: the scheme of a quantized model, else float32); an .onnx file can be float32, float16, "
        "int8_weights or symmetric_int8",
    )
    parser.add_argument(
        "--calibration",
        metavar="IMAGES",
        help="images for the ranges of activations, to export a float model as hybrid_int8, full_int8 or int8_int16: "
        f"{IMAGES_HELP}",
    )
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--verify",
        metavar="IMAGES",
        help="images on which the file is compared with the model before it is moved into place, given like those of "
        "--calibration (default: calibration images, or smooth random ones)",
    )
    compared.add_argument("--no-verify", action="store_true", help="do not compare the file with the model")
    parser.add_argument("--opset", type=int, help="version of the operators of an .onnx file, 17 to 20 (default: 20)")
    parser.add_argument("--batch-size", type=int, default=1, help="images that the file takes at once (default: 1)")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="resize a float model to square images of this size, or to this height and width (default: its own size)",
    )
    parser.add_argument(
        "--c-array", metavar="HEADER", help="also write the file as an array in C, for programs without a file system"
    )


def run(given: argparse.Namespace) -> None:
    """Write the file and print its size."""
    from keras_vit import edge

    if given.c_array is not None and not given.c_array.endswith((".h", ".hpp")):
        raise ValueError(f"The name of a header ends in .h or .hpp; received {given.c_array!r}.")
    with status(f"Exporting {given.model}"):
        model = load_model(given.model)
        if given.image_size is not None:
            model = _resized(model, given.image_size)
        images = None if given.calibration is None else load_images(given.calibration, model)
        verify = not given.no_verify if given.verify is None else load_images(given.verify, model)
        path = edge.export(
            model,
            given.output,
            given.precision,
            calibration_data=images,
            opset=given.opset,
            batch_size=given.batch_size,
            verify=verify,
        )
    print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB")
    for version, command in edge.file_info(path).commands.items():
        print(f"TensorRT {version}: {command}")
    if given.c_array is not None:
        name = edge.write_c_array(path, given.c_array)
        print(f"{given.c_array}: {name}, {name}_size")


def _resized(model: keras.Model, sizes: list[int]) -> keras.Model:
    """Return a model for images of another size: one number for square images, or height and width."""
    import keras_vit

    if len(sizes) > 2:
        raise ValueError(f"--image-size takes one number, or the height and the width; received {sizes}.")
    return keras_vit.resize_model(model, (sizes[0], sizes[-1], model.inputs[0].shape[-1]))
