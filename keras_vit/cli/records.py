"""The `keras-vit records` command."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder with one folder of images for each class")
    parser.add_argument("output", metavar="OUTPUT", help="the folder to write the files to")
    parser.add_argument("--name", default="train", help="the start of the file names (default: train)")
    parser.add_argument("--shards", type=int, default=16, help="number of files (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the images (default: 0)")
    parser.add_argument(
        "--max-corrupt",
        type=int,
        default=10,
        metavar="IMAGES",
        help="number of unreadable images to leave out before giving up (default: 10)",
    )


def run(given: argparse.Namespace) -> None:
    """Write the files and print how to train on them."""
    from keras_vit import training

    settings = {name: getattr(given, name) for name in ("name", "shards", "seed", "max_corrupt")}
    files = training.write_tfrecords(given.folder, given.output, **settings)
    print(f"{given.output}: {len(files)} files; train on them with --data tfrecords:{given.output}")
