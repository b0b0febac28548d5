"""The `keras-vit profile` command."""

import argparse
from pathlib import Path

from keras_vit.cli.common import add_json_argument, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="a .tflite file")
    parser.add_argument("--device", default="local", help="device to run on (default: local, this machine)")
    parser.add_argument("--runs", type=int, default=50, help="profiled runs (default: 50)")
    parser.add_argument("--no-roofline", action="store_true", help="do not measure what the device can do at best")
    parser.add_argument("--table", metavar="FILE", help="read what a benchmark_model printed, in place of running")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print the time by part and by operator."""
    from keras_vit import edge

    printed = None if given.table is None else Path(given.table).read_text()
    with status(f"Profiling {given.file}", show=not given.json):
        result = edge.profile(
            given.file, given.device, runs=given.runs, roofline=not given.no_roofline, printed=printed
        )
    print_result(result, given.json)
