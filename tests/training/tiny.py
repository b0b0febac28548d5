"""Define a small model with every kind of state that a checkpoint must contain, and a program that trains it.

The program runs in its own process, so that it can be killed.
"""

import argparse
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_vit import training

SETTINGS = {"epochs": 3, "learning_rate": 1e-2, "warmup_epochs": 0.5, "checkpoint_steps": 4, "verbose": 0}


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Add noise in training, using its own random state."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(7)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        return inputs + keras.random.normal(inputs.shape, 0.0, 0.1, dtype=inputs.dtype, seed=self.seed_generator)


def build_model(classes=10, dtype="float32", activation="softmax", size=8):
    keras.utils.set_random_seed(1)
    image = keras.Input((size, size, 1), batch_size=None)
    x = keras.layers.Flatten()(image)
    x = keras.layers.Dense(16, activation="relu", dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = Noise(dtype=dtype)(x)
    x = keras.layers.Dropout(0.2, dtype=dtype)(x)
    x = keras.layers.Dense(classes, dtype=dtype)(x)
    return keras.Model(image, keras.layers.Activation(activation, dtype="float32")(x))


class KillAt(keras.callbacks.Callback):
    """Kill the process after a number of steps, counted over all epochs."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--weights")
    args = parser.parse_args()
    model = build_model()
    training.fit(
        model,
        training.digits(),
        run_dir=args.run_dir,
        resume=args.resume,
        callbacks=[KillAt(args.kill_at)] if args.kill_at else [],
        **SETTINGS,
    )
    np.savez(args.weights, *[keras.ops.convert_to_numpy(variable) for variable in model.variables])
