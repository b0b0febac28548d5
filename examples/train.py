"""Train a classifier of your own images, on whatever there is: a CPU, GPUs, several machines or a TPU.

    python examples/train.py flowers --model mobilevit_s --image-size 256 --run-dir runs/flowers

Start it again with the same arguments after an interruption, and it continues where it was.
"""

import argparse
from pathlib import Path

import keras

import keras_vit
from keras_vit import training


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a classifier of your own images.")
    parser.add_argument("data", help="digits, a folder of class folders, FILE.csv, tfds:NAME or tfrecords:FOLDER")
    parser.add_argument("--model", default="mobilevit_xxs", help="a name that `keras-vit list` prints")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128, help="of all devices together")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--run-dir", type=Path, required=True, help="a folder that all workers see")
    given = parser.parse_args()

    strategy = training.strategy()  # First of all: it waits for the other workers, if there are any.
    keras.utils.set_random_seed(0)
    data = training.open_data(
        given.data,
        image_size=given.image_size,
        batch_size=given.batch_size,
        augmentation=training.Augmentation(mixup=0.2),
    )
    with strategy.scope():
        model = keras_vit.create_model(
            given.model, classes=data.classes, input_shape=data.input_shape, dtype=training.precision(strategy)
        )
    result = training.fit(
        model,
        data,
        run_dir=given.run_dir,
        resume=(given.run_dir / "checkpoint.safetensors").exists(),
        epochs=given.epochs,
        learning_rate=1e-3,
        warmup_epochs=min(5, given.epochs / 10),
    )
    print(result.best_model)


if __name__ == "__main__":
    main()
