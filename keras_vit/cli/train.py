"""The `keras-vit train` command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_vit.cli.common import print_json

if TYPE_CHECKING:
    from keras_vit.training.recipes import Recipe

# Options that set one field of the recipe: the field, the type, and the help text.
FIELDS = {
    "weights": ("weights", str, "initial weights: a tag that `keras-vit weights` prints, or a file"),
    "teacher": ("teacher", str, "a saved model to distill from"),
    "epochs": ("hyperparameters.epochs", int, "length of the training"),
    "steps": ("hyperparameters.steps", int, "length of the training in batches, instead of --epochs"),
    "image_size": ("pipeline.image_size", int, "height and width of the images in pixels"),
    "batch_size": ("pipeline.batch_size", int, "images in a batch, over all devices"),
    "learning_rate": ("hyperparameters.learning_rate", float, "highest learning rate of the schedule"),
    "weight_decay": ("hyperparameters.weight_decay", float, "rate of the weight decay"),
    "warmup_epochs": ("hyperparameters.warmup_epochs", float, "epochs during which the learning rate rises"),
    "label_smoothing": ("hyperparameters.label_smoothing", float, "share of a label spread over all classes"),
}
_DEFAULT_HYPERPARAMETERS = {"epochs": 40, "learning_rate": 1e-3}  # Without a recipe.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Train a model with a published recipe or with your own settings. The run folder holds the best model, the "
        "logs, the settings, and checkpoints to resume from."
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="a recipe that --list prints, or the name of a family such as mobilevit together with --model",
    )
    add_run_arguments(parser, FIELDS)
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="use less memory by computing activations again in the backward pass",
    )


def add_run_arguments(parser: argparse.ArgumentParser, fields: Mapping[str, tuple[str, type, str]]) -> None:
    """Add the arguments that training with and without labels have in common.

    Args:
        parser: The parser of the command.
        fields: Options that set one field of the recipe: the field, the type, and the help text, by name.
    """
    parser.add_argument("--list", action="store_true", help="print the names of the recipes")
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits, a folder with one folder per class, FILE.csv, tfds:NAME or tfrecords:FOLDER (default: digits)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="a model that `keras-vit list` prints, instead of the one of the recipe"
    )
    parser.add_argument("--run-dir", metavar="FOLDER", help="folder of the run; new or empty unless --resume is given")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run-dir")
    parser.add_argument("--dry-run", action="store_true", help="print all settings without training")
    parser.add_argument("--json", action="store_true", help="with --dry-run or --list: print JSON")
    for name, (_, kind, text) in fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=text)
    parser.add_argument("--drop-path", type=float, metavar="FLOAT", help="rate of stochastic depth")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change any setting that --dry-run prints, such as augmentation.mixup=0.2; may be repeated",
    )
    parser.add_argument(
        "--strategy",
        default="auto",
        choices=("auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu"),
        help="devices to train on (default: auto)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        help="dtype policy of the model (default: the best one for the devices)",
    )
    parser.add_argument(
        "--checkpoint-steps", type=int, default=500, metavar="STEPS", help="steps between checkpoints (default: 500)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the weights, the order of the images and dropout (default: 0)"
    )


def run(given: argparse.Namespace) -> None:
    """Train, and print the path and the accuracy of the best model."""
    from keras_vit.training.recipes import list_recipes

    if given.list:
        names = list_recipes()
        print_json(names) if given.json else print(*names, sep="\n")
        return
    chosen = recipe_of(given)
    if describe_or_check(chosen, given):
        return

    from keras_vit import training
    from keras_vit.training.recipes import train

    result = train(
        chosen,
        given.data,
        given.run_dir,
        strategy=training.strategy(given.strategy),
        precision=given.precision,
        seed=given.seed,
        checkpoint_steps=given.checkpoint_steps,
        recomputed=given.recompute,
        resume=given.resume,
    )
    best = max(result.history, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    print(f"{result.best_model}: top-1 {best['val_accuracy']:.1%} on the validation images, in epoch {best['epoch']}")


def describe_or_check(chosen: Recipe, given: argparse.Namespace) -> bool:
    """Print a recipe if only that was asked for, and return whether it was. Otherwise, there must be a run folder."""
    if given.dry_run:
        print_json(_json_fields(chosen)) if given.json else print(chosen)
    elif given.run_dir is None:
        raise ValueError("A training needs a folder for the run: pass --run-dir FOLDER.")
    return given.dry_run


def recipe_of(given: argparse.Namespace) -> Recipe:
    """Return the recipe with the changes that the arguments ask for."""
    from keras_vit.training.recipes import Recipe, images, recipe
    from keras_vit.training.running.hyperparameters import Hyperparameters

    if given.recipe is not None:
        chosen = recipe(given.recipe, given.model)
    elif given.model is not None:
        chosen = Recipe(
            paper="your own settings",
            data="your own",
            model=given.model,
            pipeline=images(given.model, given.weights),
            hyperparameters=Hyperparameters(**_DEFAULT_HYPERPARAMETERS),
        )
    else:
        raise ValueError(
            "A training needs --recipe NAME or --model NAME. `keras-vit train --list` and `keras-vit list` print the "
            "names."
        )
    return with_changes(chosen, given, FIELDS)


def with_changes(chosen: Recipe, given: argparse.Namespace, fields: Mapping[str, tuple[str, type, str]]) -> Recipe:
    """Return a recipe with the changes that the arguments of `add_run_arguments` ask for."""
    from keras_vit.training.recipes import changed, images, parsed

    changes = {}
    if given.model not in (None, chosen.model):
        # Another model has its own image size and images, and cannot use the recipe's weights.
        own = images(given.model, given.weights)
        changes = {"model": given.model, "weights": None}
        changes |= {f"pipeline.{name}": getattr(own, name) for name in ("image_size", "statistics", "evaluation")}
    for name, (field, _, _) in fields.items():
        if (value := getattr(given, name)) is not None:
            changes[field] = value
    if given.drop_path is not None:
        changes["model_settings"] = {**chosen.model_settings, "drop_path_rate": given.drop_path}
    for assignment in given.set:
        field, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE; received {assignment!r}.")
        changes[field.strip()] = parsed(text)
    return changed(chosen, changes)


def _json_fields(recipe: Recipe) -> dict:
    from keras_vit.training.data.pipeline import as_json
    from keras_vit.training.recipes import fields_of

    return {name: as_json(value) for name, value in fields_of(recipe).items()}
