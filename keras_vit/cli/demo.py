"""The `keras-vit demo` command."""

import argparse

from keras_vit.cli.common import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--output", default="runs/demo", metavar="FOLDER", help="folder to write (default: runs/demo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Run the demo, which prints its progress and its results."""
    from keras_vit.demo.run import demo

    demo(given.output, given.seed, as_json=given.json)
