"""The `keras-vit evaluate` command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Names on the command line of the statistics in `keras_vit.models.images`; "none" leaves images in [0, 255].
_STATISTICS = ("imagenet", "half", "unit", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = "Measure a model on labelled images: in all, by class, and which classes it takes for which."
    parser.add_argument("model", metavar="MODEL.keras", help="a saved model")
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="digits, FOLDER, FILE.csv, tfds:NAME or tfrecords:FOLDER"
    )
    parser.add_argument(
        "--split", choices=("test", "validation"), help="default: test images where there are any, else validation"
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="resize the model to it (default: its own)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="IMAGES", help="default: 64")
    parser.add_argument(
        "--statistics",
        choices=_STATISTICS,
        help="how images are normalized (default: as run.json beside the model says, or as the published model of its "
        "name; none where the model does it)",
    )
    parser.add_argument("--output", metavar="FOLDER", help="for evaluation.json, per_class.csv and confusion.png")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")


def main(args: argparse.Namespace, model: keras.Model) -> None:
    """Evaluates the model that was loaded from `args.model`, and prints and writes what `args` asks for."""
    import keras_vit
    from keras_vit import training

    height, width, channels = model.input_shape[1:]
    size = args.image_size or height
    if size != height or size != width:
        if args.image_size is None:
            raise ValueError(
                f"{args.model} takes images of {height} x {width}, and the data have square ones; give --image-size."
            )
        model = keras_vit.resize_model(model, (size, size, channels))
    # The digits' values are in [0, 1], whatever they are trained with.
    pipeline = {} if args.data == "digits" else {"channels": channels, **_preparation(args, model)}
    data = training.open_data(args.data, image_size=size, batch_size=args.batch_size, augmentation=None, **pipeline)
    split = args.split or ("test" if data.test is not None else "validation")
    images = data.test if split == "test" else data.validation
    if images is None:
        raise ValueError(f"There are no test images in {args.data!r}; --split validation takes the validation images.")
    result = training.evaluate(model, images, data.class_names)
    if args.output is not None:
        result.save(args.output)
    if args.json:
        print(json.dumps({"model": args.model, "data": args.data, "split": split, **result.to_dict()}, indent=2))
        return
    normalized = f", normalized by {statistics}" if (statistics := pipeline.get("statistics")) else ""
    print(f"{args.model} on the {split} images of {args.data}, {size} x {size}{normalized}\n\n{result}")
    if args.output is not None:
        print(f"\n{args.output}: evaluation.json, per_class.csv, confusion.png")


def _preparation(args, model) -> dict:
    """How the model's images are cropped and normalized, as arguments of `Pipeline`."""
    from keras_vit.models import image_facts
    from keras_vit.models.preprocessing import image_facts as facts_of
    from keras_vit.models.preprocessing import normalizes_images
    from keras_vit.training.augment import CentreCrop

    run = Path(args.model).with_name("run.json")
    if run.is_file() and (then := _pipeline_of(run)):
        statistics = then["statistics"] and image_facts.Statistics(
            *(tuple(value) if isinstance(value, list) else value for value in _fields(then["statistics"]))
        )
        found = {"evaluation": CentreCrop(*_fields(then["evaluation"])), "statistics": statistics}
    else:
        try:
            facts = facts_of(model)
            crop = CentreCrop(facts.crop_fraction, facts.interpolation)
            found = {"evaluation": crop, "statistics": facts.statistics}
        except ValueError:
            found = {}  # A model that no builder of keras_vit made.
    if normalizes_images(model):
        return {**found, "statistics": None}
    if args.statistics is not None:
        given = None if args.statistics == "none" else getattr(image_facts, args.statistics.upper())
        return {**found, "statistics": given}
    if not found:
        raise ValueError(
            f"Nothing says how the images of {args.model} are normalized: there is no run.json beside it, and no "
            f"builder of keras_vit made {model.name!r}. Give --statistics {', '.join(_STATISTICS[:-1])} or none."
        )
    return found


def _pipeline_of(run: Path) -> dict | None:
    """The settings of the `Pipeline` that a run's images came from, or None where they came in another way."""
    try:
        return json.loads(run.read_text())["settings"]["data"].get("pipeline")
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(f"{run} is not what training.fit writes: {type(error).__name__} {error}.") from error


def _fields(settings: dict) -> list:
    return [value for name, value in settings.items() if name != "kind"]
