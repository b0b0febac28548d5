"""The `keras-vit landscape` command."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_vit.cli.common import add_json_argument, load_model, print_json, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Measure how sharp the training loss is around the weights of trained classifiers: the largest eigenvalue of "
        "the Hessian, and the average loss nearby. Several runs, such as one with and one without SAM, are compared."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a training run, or a .keras file")
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="the training data: digits, a folder with one folder per class, FILE.csv, tfds:NAME or tfrecords:FOLDER "
        "(default: digits)",
    )
    parser.add_argument("--images", type=int, default=512, metavar="COUNT", help="images to use (default: 512)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="IMAGES", help="images at once (default: 64)")
    parser.add_argument("--layers", action="store_true", help="measure each layer too")
    parser.add_argument(
        "--picture", metavar="FOLDER", help="also draw the loss in two random directions, one .png file for each run"
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Measure the runs, and print the results."""
    from keras_vit import training
    from keras_vit.training.evaluation.landscape import classification_loss, surface_figure

    results = {}
    for number, name in enumerate(given.runs):
        path = Path(name) / "best.keras" if Path(name).is_dir() else Path(name)
        with status(f"Loading {path}", show=not given.json):
            model = load_model(str(path))
            batches = _batches(given, model)
        with status(f"Measuring {path}", show=not given.json):
            results[name] = training.landscape(model, batches, layers=given.layers)
        if given.picture is not None:
            folder = Path(given.picture)
            folder.mkdir(parents=True, exist_ok=True)
            surface = training.LossSurface(model, batches, classification_loss(model))
            with status(f"Drawing {path}", show=not given.json):
                figure = surface_figure(*surface.grid(), title=name)
            figure.savefig(folder / f"landscape_{number + 1}.png", dpi=150)
    if given.json:
        print_json({name: result.to_dict() for name, result in results.items()})
        return
    for name, result in results.items():
        print(f"{name}\n{result}")


def _batches(given, model):
    """Return batches of training images without augmentation."""
    from keras_vit import training

    size, _, channels = model.input_shape[1:]
    pipeline = {"image_size": size, "batch_size": given.batch_size, "augmentation": None, "channels": channels}
    data = training.open_data(given.data, **pipeline).for_model(model)
    count = max(1, min(given.images // given.batch_size, data.steps_per_epoch))
    return list(data.train(0, 0).take(count).as_numpy_iterator())
