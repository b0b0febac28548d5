"""The `keras-vit doctor` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_json_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print the versions of all packages and what is missing. The exit status is 1 if something does not work."""
    from keras_vit.edge.devices.report import doctor

    with status("Looking", show=not given.json):
        result = doctor()
    print_result(result, given.json)
    return 0 if result.healthy else 1
