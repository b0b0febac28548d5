"""The `keras-vit verify` command."""

import argparse

from keras_vit.cli.common import (
    IMAGES_HELP,
    add_json_argument,
    load_array,
    load_images,
    load_model,
    print_result,
    status,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="the reference, a .keras, .tflite or .onnx file")
    parser.add_argument("file", metavar="FILE", help="the .tflite or .onnx file to verify")
    parser.add_argument(
        "--images",
        required=True,
        metavar="IMAGES",
        help=f"{IMAGES_HELP} (the only kind if the reference is a .tflite or .onnx file)",
    )
    parser.add_argument("--labels", metavar="NPY", help="class indices of the images, to compute the accuracy")
    parser.add_argument("--device", default="local", help="device that runs the file (default: local, this machine)")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print how far the outputs of the file are from those of the model."""
    from keras_vit import edge

    labels = None if given.labels is None else load_array(given.labels)
    if given.model.endswith((".tflite", ".onnx")):
        if not given.images.endswith(".npy"):
            raise ValueError(
                "A .tflite or .onnx file does not say how it takes images: pass a .npy file of prepared images, or a "
                f".keras file as the reference; received {given.images!r}."
            )
        reference, images = given.model, load_array(given.images)
    else:
        reference = load_model(given.model)
        images = load_images(given.images, reference)
    with status(f"Comparing {given.file} with {given.model}", show=not given.json):
        result = edge.verify(reference, given.file, images, labels=labels, device=given.device)
    print_result(result, given.json)
