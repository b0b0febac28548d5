"""The `keras-vit evaluate` command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from keras_vit.cli.common import add_json_argument, load_model, print_json, status

if TYPE_CHECKING:
    import keras

# Names of the statistics in `keras_vit.models.image_facts`; "none" leaves images in [0, 255].
_STATISTICS = ("imagenet", "half", "unit", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Measure the accuracy of a trained model on labeled images, overall and for each class, and show which classes "
        "it confuses."
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument(
        "--data",
        required=True,
        metavar="SOURCE",
        help="digits, a folder with one folder per class, FILE.csv, tfds:NAME or tfrecords:FOLDER",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation", "train", "all"),
        help="which images to measure (default: the test images if the source has any, else its validation images, "
        "else all; of the folder that the model was trained on, those that it was not trained on)",
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="resize the model to this image size")
    parser.add_argument("--batch-size", type=int, default=64, metavar="IMAGES", help="images at once (default: 64)")
    parser.add_argument(
        "--statistics",
        choices=_STATISTICS,
        help="how to normalize images for a model that does not say so itself (default: as in run.json beside it)",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="also write evaluation.json, per_class.csv and confusion.png to this folder"
    )
    add_json_argument(parser)


def run(given: argparse.Namespace) -> None:
    """Evaluate the model, and print and write the results."""
    if not given.model.endswith(".keras"):
        raise ValueError(f"Pass a trained model as a .keras file; received {given.model!r}.")
    from keras_vit import training
    from keras_vit.models.classes import class_names
    from keras_vit.training.data.notes import note

    model = _resize(load_model(given.model), given)
    size, _, channels = model.input_shape[1:]
    pipeline = _preprocessing(given, model)
    run = _description_of_the_run(given.model)
    names = class_names(model) or run.get("class_names")
    if names is None:
        note(f"{given.model} has no class names; its scores are taken to be in the order of the classes of the data.")
    data = training.evaluation_data(
        given.data,
        split=given.split,
        class_names=names,
        trained_on=run.get("settings", {}).get("data"),
        image_size=size,
        batch_size=given.batch_size,
        channels=channels,
        augmentation=None,
        **pipeline,
    )
    with status(f"Evaluating {given.model}", show=not given.json):
        result = training.evaluate(model, data, model_class_names=names)
    if given.output is not None:
        result.save(given.output)
    if given.json:
        print_json({"model": given.model, "data": given.data, "split": data.split, **result.to_dict()})
        return
    normalized = f", normalized by {statistics}" if (statistics := pipeline.get("statistics")) else ""
    chosen = "all" if data.split == "all" else f"the {data.split}"
    print(f"{given.model} on {chosen} images of {given.data}, {size} x {size}{normalized}\n\n{result}")
    if given.output is not None:
        print(f"\n{given.output}: evaluation.json, per_class.csv, confusion.png")


def _resize(model: keras.Model, given: argparse.Namespace) -> keras.Model:
    """Return the model for the image size that was asked for, which is square as those of the data are."""
    import keras_vit

    height, width, channels = model.input_shape[1:]
    size = given.image_size or height
    if (height, width) == (size, size):
        return model
    if given.image_size is None:
        raise ValueError(
            f"{given.model} takes images of {height} x {width} pixels, but those of the data are square. Pass "
            "--image-size to resize the model."
        )
    return keras_vit.resize_model(model, (size, size, channels))


def _preprocessing(given: argparse.Namespace, model: keras.Model) -> dict:
    """Return how the run or the model normalizes images, as arguments of `training.Pipeline`."""
    from keras_vit.models import image_facts
    from keras_vit.models.model_images import model_statistics

    stated = _of_the_run(given.model)
    if given.statistics is not None:
        stated["statistics"] = None if given.statistics == "none" else getattr(image_facts, given.statistics.upper())
    if "statistics" not in stated and given.data != "digits":
        try:
            stated["statistics"] = model_statistics(model)
        except ValueError as error:
            raise ValueError(
                f"It is not known how images for {given.model} are normalized: there is no run.json beside the file, "
                f"and no builder of keras_vit made {model.name!r}. Pass --statistics {', '.join(_STATISTICS[:-1])} or "
                "none."
            ) from error
    return stated


def _description_of_the_run(model_path: str) -> dict:
    """Return the content of run.json beside the model, or an empty dictionary if there is none."""
    path = Path(model_path).with_name("run.json")
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["settings"]["data"].get("pipeline")
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not what training.fit writes: {type(error).__name__} {error}.") from error
    return description


def _of_the_run(model_path: str) -> dict:
    """Return the crop and the statistics that run.json beside the model describes, or an empty dictionary."""
    from keras_vit.models.image_facts import Statistics
    from keras_vit.training.augment import CenterCrop

    pipeline = _description_of_the_run(model_path).get("settings", {}).get("data", {}).get("pipeline")
    if not pipeline:  # The run was trained on the digits, or on data of the user's own.
        return {}
    found = {}
    if pipeline["evaluation"] is not None:
        found["evaluation"] = CenterCrop(*_fields(pipeline["evaluation"]))
    if pipeline["statistics"] != "model":
        found["statistics"] = pipeline["statistics"] and Statistics(*_fields(pipeline["statistics"]))
    return found


def _fields(settings: dict) -> list:
    return [value for name, value in settings.items() if name != "kind"]
