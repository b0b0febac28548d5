"""The `keras-vit devices` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_json, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("names", nargs="*", metavar="DEVICE", help="devices to check, such as ssh://pi@board")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print which devices can be used, and what the others lack."""
    from keras_vit.edge.devices.report import device_reports

    with status("Looking for devices", show=not given.json):
        reports = device_reports(given.names)
    if given.json:
        print_json([report.to_dict() for report in reports])
    else:
        print("\n".join(map(str, reports)))
