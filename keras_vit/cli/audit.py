"""The `keras-vit audit` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="a .tflite file, or an .onnx file for jetson")
    parser.add_argument(
        "--target",
        default="cpu",
        help="cpu (default), gpu, npu:SOC such as npu:SM8750, edgetpu, or jetson (an .onnx file)",
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print the findings."""
    from keras_vit import edge

    print_result(edge.audit(given.file, target=given.target), given.json)
