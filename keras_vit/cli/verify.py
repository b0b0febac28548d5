"""The `keras-vit verify` command."""

import argparse

from keras_vit.cli.common import (
    IMAGES_HELP,
    add_json_argument,
    is_exported,
    load_array,
    load_images,
    load_images_for_file,
    load_model,
    print_result,
    status,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="the reference, a .keras, .tflite or .onnx file")
    parser.add_argument("file", metavar="FILE", help="the file to compare with it, of any of these kinds")
    parser.add_argument(
        "--images",
        required=True,
        metavar="IMAGES",
        help=IMAGES_HELP,
    )
    parser.add_argument("--labels", metavar="NPY", help="class indices of the images, to compute the accuracy")
    parser.add_argument("--device", default="local", help="device that runs the file (default: local, this machine)")
    parser.add_argument(
        "--per-layer",
        action="store_true",
        help="also compare the outputs of the layers on the first four images, and name the one in which most is lost",
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print how far the outputs of the file are from those of the model."""
    from keras_vit import edge

    labels = None if given.labels is None else load_array(given.labels)
    reference, candidate = (each if is_exported(each) else load_model(each) for each in (given.model, given.file))
    if not is_exported(given.model):
        images = load_images(given.images, reference)
    elif not is_exported(given.file):
        images = load_images(given.images, candidate)
    else:
        images = load_images_for_file(given.images, given.model)
    with status(f"Comparing {given.file} with {given.model}", show=not given.json):
        result = edge.verify(
            reference, candidate, images, labels=labels, device=given.device, per_layer=given.per_layer
        )
    print_result(result, given.json)
