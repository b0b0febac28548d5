"""The `keras-vit train` command."""

import argparse
import json

# Arguments that are short for a field of the recipe.
_SHORT = {
    "weights": ("weights", str, "what to start from: a tag of `keras-vit weights`, or a file"),
    "teacher": ("teacher", str, "a saved model to learn from by distillation"),
    "epochs": ("hyperparameters.epochs", int, "epochs of the whole training"),
    "steps": ("hyperparameters.steps", int, "batches of the whole training, in place of epochs"),
    "image_size": ("pipeline.image_size", int, "height and width in pixels"),
    "batch_size": ("pipeline.batch_size", int, "images in a batch, of all devices together"),
    "learning_rate": ("hyperparameters.learning_rate", float, "the highest one"),
    "weight_decay": ("hyperparameters.weight_decay", float, "rate of the weight decay"),
    "warmup_epochs": ("hyperparameters.warmup_epochs", float, "epochs in which the learning rate grows"),
    "label_smoothing": ("hyperparameters.label_smoothing", float, "part of a label that is spread over all classes"),
}
_DEFAULT_MODEL_TRAINING = {"epochs": 40, "learning_rate": 1e-3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Train a model, by a published recipe or by your own settings, in a folder that holds all that is needed to "
        "continue and to repeat it."
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="a name that --list prints, or a family's such as mobilevit with --model; without one, give --model",
    )
    parser.add_argument("--list", action="store_true", help="print the recipes' names")
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits, a folder of class folders, FILE.csv, tfds:NAME or tfrecords:FOLDER (default: digits)",
    )
    parser.add_argument("--model", metavar="NAME", help="a name that `keras-vit list` prints, in place of the recipe's")
    parser.add_argument("--run-dir", metavar="FOLDER", help="a new or empty folder for the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run-dir")
    parser.add_argument("--dry-run", action="store_true", help="print every setting, and train nothing")
    parser.add_argument("--json", action="store_true", help="with --dry-run or --list: print JSON")
    for name, (_, kind, described) in _SHORT.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=described)
    parser.add_argument("--drop-path", type=float, metavar="FLOAT", help="rate of stochastic depth")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other setting that --dry-run prints, such as augmentation.mixup=0.2; may be repeated",
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
        help="dtype policy of the model (default: what suits the devices)",
    )
    parser.add_argument(
        "--recompute", action="store_true", help="save memory: compute inner activations anew for the gradient"
    )
    parser.add_argument("--checkpoint-steps", type=int, default=500, help="steps between checkpoints (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and dropout (default: 0)")


def main(args: argparse.Namespace) -> None:
    """Trains, and prints the accuracy of the best model and where it is."""
    from keras_vit.training.recipes import list_recipes

    if args.list:
        print(json.dumps(list_recipes()) if args.json else "\n".join(list_recipes()))
        return
    recipe = resolved(args)
    if args.dry_run:
        print(_as_json(recipe) if args.json else recipe)
        return
    if args.run_dir is None:
        raise ValueError("A training needs a folder: --run-dir FOLDER.")

    from keras_vit import training
    from keras_vit.training.recipes import train

    result = train(
        recipe,
        args.data,
        args.run_dir,
        strategy=training.strategy(args.strategy),
        precision=args.precision,
        seed=args.seed,
        checkpoint_steps=args.checkpoint_steps,
        recomputed=args.recompute,
        resume=args.resume,
    )
    best = max(result.history, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    print(f"{result.best_model}: top-1 {best['val_accuracy']:.1%} on the validation images, in epoch {best['epoch']}")


def resolved(args: argparse.Namespace):
    """The recipe with everything that the arguments change."""
    from keras_vit.training.recipes import Recipe, changed, images, parsed, recipe
    from keras_vit.training.running.hyperparameters import Hyperparameters

    if args.recipe is not None:
        chosen = recipe(args.recipe, args.model)
    elif args.model is not None:
        chosen = Recipe(
            paper="your own settings",
            data="your own",
            model=args.model,
            pipeline=images(args.model, args.weights),
            hyperparameters=Hyperparameters(**_DEFAULT_MODEL_TRAINING),
        )
    else:
        raise ValueError("A training needs --recipe NAME or --model NAME; --list and `keras-vit list` print the names.")
    changes = {}
    if args.model not in (None, chosen.model):
        # The size, the statistics and the evaluation crop of the images are the model's.
        own = images(args.model, args.weights)
        changes = {"model": args.model, "weights": None}  # The recipe's weights are of its model.
        changes |= {f"pipeline.{name}": getattr(own, name) for name in ("image_size", "statistics", "evaluation")}
    for name, (field, _, _) in _SHORT.items():
        if (value := getattr(args, name)) is not None:
            changes[field] = value
    if args.drop_path is not None:
        changes["model_settings"] = {**chosen.model_settings, "drop_path_rate": args.drop_path}
    for assignment in args.set:
        field, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE; received {assignment!r}.")
        changes[field.strip()] = parsed(text)
    return changed(chosen, changes)


def _as_json(recipe):
    from keras_vit.training.data.pipeline import as_json
    from keras_vit.training.recipes import fields_of

    return json.dumps({name: as_json(value) for name, value in fields_of(recipe).items()}, indent=2)
