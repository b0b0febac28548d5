"""The `keras-vit quantize` command."""

import argparse

from keras_vit.cli.common import IMAGES_HELP, MODEL_HELP, load_array, load_images, load_model, status


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
    parser.add_argument(
        "--scheme",
        default="hybrid_int8",
        help="hybrid_int8, symmetric_int8, dynamic_int8, int8_weights, int4_weights, full_int8 or int8_int16 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--keep-accuracy",
        type=float,
        metavar="POINTS",
        help="keep the most sensitive layers in float until the loss of accuracy on the calibration images is at most "
        "this many percentage points, and print which and what that costs",
    )
    parser.add_argument(
        "--labels",
        metavar="NPY",
        help="class indices of the calibration images, for --keep-accuracy; without them, the accuracy is how often "
        "the quantized model agrees with the float model",
    )


def run(given: argparse.Namespace) -> None:
    """Write the quantized model."""
    from keras_vit import edge
    from keras_vit.utils.files import replacing

    if not given.output.endswith(".keras"):
        raise ValueError(f"The name of the quantized model must end in .keras; received {given.output!r}.")
    with status(f"Quantizing {given.model}"):
        model = load_model(given.model)
        quantized = edge.quantize_aware(
            model,
            scheme=given.scheme,
            calibration_data=load_images(given.calibration, model),
            keep_accuracy=given.keep_accuracy,
            labels=None if given.labels is None else load_array(given.labels),
        )
        with replacing(given.output) as partial:
            quantized.save(partial)
    if given.keep_accuracy is not None:
        print(quantized.accuracy_report)
    print(f"{given.output}: train it, or export it with `keras-vit export`")
