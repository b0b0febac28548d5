"""The `keras-vit weights` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_json, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a name that `keras-vit list` prints")
    parser.add_argument("--download", metavar="TAG", help="download the weights with this tag and print their path")
    parser.add_argument("--again", action="store_true", help="with --download: replace the file in the cache")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Print a table of the published weights, or download a file and print its path."""
    import keras_vit
    from keras_vit.utils.tables import table

    if given.download is not None:
        with status(f"Downloading {given.download}", show=not given.json):
            path = keras_vit.download_weights(given.model, given.download, again=given.again)
        print_json({"path": path}) if given.json else print(path)
        return
    records = keras_vit.list_weights(given.model)
    if given.json:
        print_json([record.to_dict() for record in records])
        return
    if not records:
        print(f"No weights are published for {given.model}.")
        return
    rows = [
        (
            record.tag,
            " x ".join(map(str, record.image_size)),
            "-" if record.classes is None else str(record.classes),
            "-" if record.top1 is None else f"{record.top1:.2f}",
            record.trained_on,
            record.license,
        )
        for record in records
    ]
    print(table(("Tag", "Size", "Classes", "Top-1 %", "Trained on", "License"), rows))
