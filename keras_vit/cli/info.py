"""The `keras-vit info` command."""

import argparse

from keras_vit.cli.common import add_json_argument, is_exported, print_json, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model", metavar="MODEL", help="a name that `keras-vit list` prints, or a .tflite or .onnx file"
    )
    add_json_argument(parser)
    parser.add_argument(
        "--snippet",
        metavar="LANGUAGE",
        help="print a short program that runs the file on a picture instead: cpp or kotlin",
    )


def run(given: argparse.Namespace) -> None:
    """Print what is known of a model or a file."""
    if is_exported(given.model):
        from keras_vit import edge

        info = edge.file_info(given.model)
        if given.snippet is not None:
            print(edge.snippet(info, given.snippet), end="")
        else:
            print_result(info, given.json)
        return
    if given.snippet is not None:
        raise ValueError(f"--snippet is for .tflite and .onnx files; received {given.model!r}.")
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
