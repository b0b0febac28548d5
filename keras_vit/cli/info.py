"""The `keras-vit info` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_json, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a name that `keras-vit list` prints")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print what is known of a model."""
    import keras_vit

    with status(f"Building {given.model}", show=not given.json):
        facts = keras_vit.model_info(given.model)
    if given.json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {_text(name, value)}")


def _text(name: str, value) -> str:
    if name == "image_size":
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
