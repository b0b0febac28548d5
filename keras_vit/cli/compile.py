"""The `keras-vit compile` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="a .tflite file")
    parser.add_argument("output", metavar="OUTPUT", help="the compiled .tflite file to write")
    parser.add_argument(
        "--soc", required=True, metavar="CHIP", help="the chip, such as SM8750 (Qualcomm) or LNL (Intel)"
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Compile the file and print what of it runs on the NPU."""
    from keras_vit import edge

    with status(f"Compiling {given.file} for {given.soc}", show=not given.json):
        result = edge.compile(given.file, given.output, given.soc)
    print_result(result, given.json)
