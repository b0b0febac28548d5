"""The `keras-vit export` command."""

import argparse
import os

from keras_vit.cli.common import IMAGES_HELP, MODEL_HELP, load_images, load_model, status


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
    parser.add_argument(
        "--batch-size", type=int, default=1, help="images that an .onnx file takes at once (default: 1)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the file and print its size."""
    from keras_vit import edge

    with status(f"Exporting {given.model}"):
        model = load_model(given.model)
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
    if path.endswith(".onnx"):
        from keras_vit.edge.onnx.trtexec import commands_in

        for version, command in commands_in(path).items():
            print(f"TensorRT {version}: {command}")
