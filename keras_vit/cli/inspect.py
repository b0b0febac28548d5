"""The `keras-vit inspect` command."""

import argparse
import os

from keras_vit.cli.common import MODEL_HELP, load_model, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--image", required=True, metavar="FILE", help="an image, such as a JPEG or PNG file")
    parser.add_argument(
        "--output", default="inspect.html", metavar="FILE", help="the page to write (default: inspect.html)"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="load a .safetensors, .npz or .weights.h5 file into the model first"
    )
    parser.add_argument(
        "--like",
        metavar="NAME",
        help="normalize the image as for this published model, such as vit_b16 or vit_b16.dino (default: as saved in "
        "the model)",
    )


def run(given: argparse.Namespace) -> None:
    """Write the page and print its path."""
    import keras_vit
    from keras_vit.inspection.inspect_page import inspect_image

    with status(f"Loading {given.model}"):
        model = load_model(given.model)
        if given.weights is not None:
            keras_vit.load_weights(model, given.weights)
    if given.weights is not None or given.model.endswith(".keras"):
        note = f"Weights: {os.path.basename(given.weights or given.model)}."
    else:
        note = "The weights are random, so nothing here was learned. Pass --weights to load a file."
    with status(f"Computing {model.name} on {os.path.basename(given.image)}"):
        page = inspect_image(model, given.image, given.output, like=given.like, note=note)
    print(f"{page}: open it in a browser")
