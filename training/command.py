"""The `keras-vit train` command."""

import argparse

# The names of the data sources of `keras_vit.training`, each a function of image_size, batch_size and seed.
_DATA = ("digits",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = "Train a model, in a folder that holds all that is needed to continue and to repeat it."
    parser.add_argument("--data", choices=_DATA, default="digits", help="images to train on (default: digits)")
    parser.add_argument("--model", required=True, metavar="NAME", help="a name that `keras-vit list` prints")
    parser.add_argument("--run-dir", required=True, metavar="FOLDER", help="a new or empty folder for the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run-dir")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of the whole training (default: 40)")
    parser.add_argument("--image-size", type=int, default=8, metavar="PIXELS", help="height and width (default: 8)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="IMAGES", help="default: 64")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="RATE", help="default: 0.001")
    parser.add_argument("--weight-decay", type=float, default=0.05, metavar="RATE", help="default: 0.05")
    parser.add_argument("--warmup-epochs", type=float, default=0, metavar="EPOCHS", help="default: 0")
    parser.add_argument("--label-smoothing", type=float, default=0.1, metavar="PART", help="default: 0.1")
    parser.add_argument(
        "--drop-path", type=float, default=0.0, metavar="RATE", help="rate of stochastic depth (default: 0)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
        help="dtype policy of the model (default: float32)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and dropout (default: 0)")


def main(args: argparse.Namespace) -> None:
    """Trains, and prints the test accuracy of the best model and where it is."""
    import keras

    import keras_vit
    from keras_vit import training

    data = getattr(training, args.data)(args.image_size, args.batch_size, args.seed)
    keras.utils.set_random_seed(args.seed)
    model = keras_vit.create_model(
        args.model,
        classes=data.classes,
        input_shape=data.input_shape,
        drop_path_rate=args.drop_path,
        dtype=args.precision,
    )
    result = training.fit(
        model,
        data,
        epochs=args.epochs,
        run_dir=args.run_dir,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        warmup_epochs=args.warmup_epochs,
        label_smoothing=args.label_smoothing,
        seed=args.seed,
        resume=args.resume,
    )
    best = keras.models.load_model(result.best_model)
    test = best.evaluate(data.test, verbose=0, return_dict=True)
    print(f"{result.best_model}: top-1 {test['accuracy']:.1%} on {len(data.test_labels)} test images")
