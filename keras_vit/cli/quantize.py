"""The `keras-vit quantize` command."""

import argparse

from keras_vit.cli.common import IMAGES_HELP, MODEL_HELP, load_images, load_model, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("output", metavar="OUTPUT", help="the .keras file to write")
    parser.add_argument(
        "--calibration",
        required=True,
        metavar="IMAGES",
        help=f"images from which the ranges of activations are estimated: {IMAGES_HELP}",
    )


def run(given: argparse.Namespace) -> None:
    """Write the quantized model."""
    from keras_vit import edge
    from keras_vit.utils.files import replacing

    if not given.output.endswith(".keras"):
        raise ValueError(f"The name of the quantized model must end in .keras; received {given.output!r}.")
    with status(f"Quantizing {given.model}"):
        model = load_model(given.model)
        quantized = edge.quantize_aware(model, calibration_data=load_images(given.calibration, model))
        with replacing(given.output) as partial:
            quantized.save(partial)
    print(f"{given.output}: train it, or export it with `keras-vit export`")
