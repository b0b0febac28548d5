"""Trains small models under a strategy and writes their last states: a program, of which each worker runs one.

A process of its own, since devices and workers can't be changed once TensorFlow runs.
"""

import argparse
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_vit
from keras_vit import training
from keras_vit.layers import ConvNorm

BATCH = 12  # That 2 and 3 replicas can share.
STEPS = 5


def vit(dropout=0.0):
    return keras_vit.ViT(
        classes=4,
        input_shape=(16, 16, 3),
        patch_size=8,
        width=16,
        depth=2,
        num_heads=2,
        dropout_rate=dropout,
        drop_path_rate=dropout,
    )


def conv_net(dropout=0.0, size=16, channels=3, classes=4):
    image = x = keras.Input((size, size, channels))
    for settings in (
        {"filters": 8, "kernel_size": 3, "strides": 2, "activation": "silu"},
        {"filters": 8, "kernel_size": 3, "depthwise": True, "input_channels": 8, "activation": "silu"},
        {"filters": 12},
    ):
        x = ConvNorm(**settings)(x)
    x = keras.layers.Dropout(dropout)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x))


def batches(augment=False):
    random = np.random.default_rng(3)
    images = random.normal(size=(BATCH * STEPS, 16, 16, 3)).astype("float32")
    labels = np.eye(4, dtype="float32")[random.integers(0, 4, len(images))]
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    if augment:
        data = data.shuffle(len(images)).map(
            lambda x, y: (tf.image.random_flip_left_right(x) + tf.random.normal([]), y)
        )
    return data.batch(BATCH)


def state(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def trained(strategy, build, optimizer, data, synchronized=True, **settings):
    """The state of a model after one epoch, and what `fit`, `evaluate` and `predict` gave."""
    with strategy.scope():
        model = build(**settings)
        if synchronized:
            training.synchronize(model)
        model.compile(optimizer(), "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(data, shuffle=False, verbose=0).history
    # The last batch is one that the replicas can't share equally.
    rest = batches().unbatch().take(BATCH + 5).batch(BATCH)
    results = [history["loss"][0], history["accuracy"][0], *model.evaluate(rest, verbose=0)]
    return [*state(model), np.array(results), model.predict(rest, verbose=0)]


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.9)


def equal_steps(strategy):
    """Everything seeded: the same on any number of replicas."""
    results = {}
    for name, build, synchronized in (("vit", vit, True), ("conv", conv_net, True), ("conv_apart", conv_net, False)):
        keras.utils.set_random_seed(0)
        results[name] = trained(strategy, build, momentum, batches(), synchronized)
    return results


def unseeded(strategy):
    """No seed given, so each process draws its own numbers."""
    adamw = lambda: keras.optimizers.AdamW(1e-2)  # noqa: E731
    return {
        f"unseeded_{build.__name__}": trained(strategy, build, adamw, batches(augment=True), dropout=0.2)
        for build in (vit, conv_net)
    }


def without_ours(strategy):
    """The errors of `fit` when `reduce` is TensorFlow's, and when it is but for structures; "" where there is none."""
    ours, theirs = type(strategy), tf.distribute.MultiWorkerMirroredStrategy

    def structures_only(self, reduce_op, value, axis):
        if isinstance(value, tuple):
            return tuple(theirs.reduce(self, reduce_op, part, axis) for part in value)
        return theirs.reduce(self, reduce_op, value, axis)

    kept, errors = ours.reduce, []
    for reduce in (theirs.reduce, structures_only):
        ours.reduce = reduce
        try:
            trained(strategy, conv_net, momentum, batches())
            errors.append("")
        except ValueError as error:
            errors.append(str(error)[:500])
    ours.reduce = kept
    return {"without_ours": [np.array(errors)]}


class KillAt(keras.callbacks.Callback):
    """Kills its own process after a number of steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(strategy, run_dir, kill_at, resume):
    """`training.fit` of two epochs, with everything that a checkpoint must hold."""
    data = training.digits()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = conv_net(dropout=0.2, size=8, channels=1, classes=10)
    result = training.fit(
        model,
        data,
        epochs=2,
        run_dir=run_dir,
        learning_rate=1e-2,
        warmup_epochs=0.5,
        checkpoint_steps=4,
        callbacks=[KillAt(kill_at)] if kill_at else [],
        verbose=0,
        resume=resume,
    )
    rows = [[line[name] for name in sorted(line)] for line in result.history]
    return {"fit": state(model), "history": [np.array(rows)]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--workers")
    parser.add_argument("--index", type=int)
    parser.add_argument("--run-dir")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("cases", nargs="+")
    args = parser.parse_args()
    if args.workers:
        strategy = training.strategy("multi_worker", workers=args.workers.split(","), index=args.index, timeout=60)
    elif args.replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * args.replicas)
        strategy = training.strategy("mirrored", devices=[f"CPU:{index}" for index in range(args.replicas)])
    else:
        strategy = training.strategy("cpu")
    results = {}
    for case in args.cases:
        if case == "fit":
            results.update(fit(strategy, args.run_dir, args.kill_at, args.resume))
        else:
            results.update({"steps": equal_steps, "unseeded": unseeded, "without_ours": without_ours}[case](strategy))
    np.savez(
        args.output, **{f"{name}/{i:03}": value for name, values in results.items() for i, value in enumerate(values)}
    )


if __name__ == "__main__":
    main()
