"""The `keras-vit list` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help='names to list, with wildcards such as "vit_b*" (default: all)'
    )
    parser.add_argument(
        "--commercial", action="store_true", help="only models whose license clearly allows commercial use"
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print the names of the models."""
    import keras_vit

    names = keras_vit.list_models(given.pattern, commercial=given.commercial)
    if given.json:
        print_json(names)
    else:
        print(*names, sep="\n")
