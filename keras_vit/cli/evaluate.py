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
        help="how to normalize the images (default: as in run.json beside the model, or as saved in the model)",
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
    # The digits are images in [0, 1] for every model.
    pipeline = {} if given.data == "digits" else {"channels": channels, **_preprocessing(given, model)}
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
    """Return how to crop and normalize images for the model, as arguments of `training.Pipeline`."""
    from keras_vit.models import image_facts
    from keras_vit.models.preprocessing import normalizes_images

    found = _of_the_run(given.model) or _of_the_model(model)
    if normalizes_images(model):
        return {**found, "statistics": None}
    if given.statistics is not None:
        statistics = None if given.statistics == "none" else getattr(image_facts, given.statistics.upper())
        return {**found, "statistics": statistics}
    if not found:
        raise ValueError(
            f"It is not known how images for {given.model} are normalized: there is no run.json beside the file, and "
            f"no builder of keras_vit made {model.name!r}. Pass --statistics {', '.join(_STATISTICS[:-1])} or none."
        )
    return found


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
    """Return the preprocessing that run.json beside the model describes, or an empty dictionary."""
    from keras_vit.models.image_facts import Statistics
    from keras_vit.training.augment import CenterCrop

    pipeline = _description_of_the_run(model_path).get("settings", {}).get("data", {}).get("pipeline")
    if not pipeline:  # The run was trained on arrays.
        return {}
    statistics = pipeline["statistics"] and Statistics(
        *(tuple(value) if isinstance(value, list) else value for value in _fields(pipeline["statistics"]))
    )
    return {"evaluation": CenterCrop(*_fields(pipeline["evaluation"])), "statistics": statistics}


def _of_the_model(model: keras.Model) -> dict:
    """Return the preprocessing that the model itself describes, or an empty dictionary."""
    from keras_vit.models.preprocessing import image_facts
    from keras_vit.training.augment import CenterCrop

    try:
        facts = image_facts(model)
    except ValueError:  # No builder of keras_vit made the model.
        return {}
    return {"evaluation": CenterCrop(facts.crop_fraction, facts.interpolation), "statistics": facts.statistics}


def _fields(settings: dict) -> list:
    return [value for name, value in settings.items() if name != "kind"]
