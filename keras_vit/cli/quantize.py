"""The `keras-vit quantize` command."""

import argparse

from keras_vit.cli.common import MODEL_HELP, load_array, load_model, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("output", metavar="OUTPUT", help="the .keras file to write")
    parser.add_argument(
        "--calibration", required=True, metavar="NPY", help="images from which the ranges of activations are estimated"
    )


def run(given: argparse.Namespace) -> None:
    """Write the quantized model."""
    from keras_vit import edge
    from keras_vit.utils.files import replacing

    if not given.output.endswith(".keras"):
        raise ValueError(f"The name of the quantized model must end in .keras; received {given.output!r}.")
    images = load_array(given.calibration)
    with status(f"Quantizing {given.model}"):
        quantized = edge.quantize_aware(load_model(given.model), calibration_data=images)
        with replacing(given.output) as partial:
            quantized.save(partial)
    print(f"{given.output}: train it, or export it with `keras-vit export`")
