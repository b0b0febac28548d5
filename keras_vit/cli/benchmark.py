"""The `keras-vit benchmark` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tflite and .onnx files, measured in turn")
    parser.add_argument("--device", default="local", help="device to measure on (default: local, this machine)")
    parser.add_argument("--threads", type=int, default=1, help="threads to run a file with (default: 1)")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each file (default: 50)")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print the latencies."""
    from keras_vit import edge

    with status("Measuring", show=not given.json):
        result = edge.benchmark(given.files, given.device, threads=given.threads, runs=given.runs)
    print_result(result, given.json)
