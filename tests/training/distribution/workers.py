"""Train small models under a strategy, and write their final states. Each worker of a job runs this program.

This is a separate program, because devices and workers can't be changed once TensorFlow is running.
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
from keras_vit.models.image_facts import IMAGENET
from keras_vit.training.distribution.strategy import shareable

BATCH = 12  # Divisible by 2 and by 3 replicas.
STEPS = 5
SIZE = 32


def vit(dropout=0.0):
    return keras_vit.ViT(
        classes=4,
        input_shape=(SIZE, SIZE, 3),
        patch_size=8,
        width=16,
        depth=2,
        num_heads=2,
        dropout_rate=dropout,
        drop_path_rate=dropout,
    )


def mobilevit(dropout=0.0):
    return keras_vit.MobileViT(
        classes=4,
        input_shape=(SIZE, SIZE, 3),
        stem_channels=4,
        channels=(4, 6, 8, 8, 8),
        head_channels=16,
        widths=(8, 8, 8),
        depths=(1, 1, 1),
        num_heads=2,
        expansion=2,
        dropout_rate=dropout,
        drop_path_rate=dropout,
    )


def conv_net(dropout=0.0, size=SIZE, channels=3, classes=4):
    image = x = keras.Input((size, size, channels))
    for settings in (
        {"channels": 8, "kernel_size": 3, "strides": 2, "activation": "silu"},
        {"channels": 8, "kernel_size": 3, "depthwise": True, "input_channels": 8, "activation": "silu"},
        {"channels": 12},
    ):
        x = ConvNorm(**settings)(x)
    x = keras.layers.Dropout(dropout)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x))


def pictures():
    random = np.random.default_rng(3)
    count = BATCH * STEPS
    return random.random((count, SIZE, SIZE, 3), "float32"), random.integers(0, 4, count)


def batches():
    images, labels = pictures()
    return tf.data.Dataset.from_tensor_slices((4 * images - 2, np.eye(4, dtype="float32")[labels])).batch(BATCH)


def unseeded_batches():
    def changed(images, labels):
        return tf.image.random_flip_left_right(images) + tf.random.normal([]), labels

    return batches().unbatch().shuffle(BATCH * STEPS).map(changed).batch(BATCH)


def own_batches(strategy):
    """Return batches of which each worker augments its own part."""
    augmentation = training.Augmentation(policy=training.RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0)
    data = training.arrays(
        *pictures(), validation=pictures(), batch_size=BATCH, augmentation=augmentation, statistics=IMAGENET
    )
    return strategy.distribute_datasets_from_function(lambda context: data.train(0, 0, context))


def state(model):
    """Return the weights, statistics, random states and moving averages of a model."""
    averages = getattr(model.optimizer, "averages", [])
    return [keras.ops.convert_to_numpy(variable) for variable in [*model.variables, *averages]]


def momentum(model):
    # The steps of an untrained MobileViT amplify differences, larger steps more so. With three replicas, Keras
    # multiplies the loss by a third in float32, which is off by 3e-8.
    return keras.optimizers.SGD(0.005 if model.name.startswith("mobilevit") else 0.05, momentum=0.9)


def sharp_average(model):
    training.use_sam(model)
    return training.optimizer("sgd", model, 0.05, clip_norm=1.0, accumulation_steps=2, ema_decay=0.9)


def adamw(model):
    return training.optimizer("adamw", model, training.Cosine(1e-2, STEPS), clip_norm=1.0)


def trained(strategy, build, optimizer, data, synchronized=True, rest=5, **settings):
    """Return the state of a model after one epoch, and the results of `fit`, `evaluate` and `predict`.

    The model is evaluated on one full batch and on `rest` more images, which replicas can't share equally. If there are
    fewer than one for each replica, `shareable` rebalances both batches.
    """
    with strategy.scope():
        model = build(**settings)
        if synchronized:
            training.synchronize(model)
        model.compile(optimizer(model), "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(data, shuffle=False, verbose=0).history
    images = shareable(batches().rebatch(1).take(BATCH + rest).rebatch(BATCH), strategy)
    results = [history["loss"][0], history["accuracy"][0], *model.evaluate(images, verbose=0)]
    # In TensorFlow 2.21, predicting on batches that workers can't share equally makes later steps hang.
    return [*state(model), model.predict(batches(), verbose=0), np.array(results)]


# Everything is seeded, so all cases except the last give the same result on any number of replicas.
STEPS_OF = {
    "vit": (vit, momentum, {}),
    "mobilevit": (mobilevit, momentum, {}),
    "sharp_average": (vit, sharp_average, {}),
    "conv_apart": (conv_net, momentum, {"synchronized": False, "rest": 1}),
}


def steps_of(name, strategy):
    build, optimizer, how = STEPS_OF[name]
    keras.utils.set_random_seed(0)
    # Float64, because rounding errors of MobileViT count as differences too.
    floatx = "float64" if name == "mobilevit" else "float32"
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    return {name: trained(strategy, build, optimizer, batches(), **how)}


# Without a seed, each process draws different random numbers.
def unseeded_vit(strategy):
    return {"unseeded_vit": trained(strategy, vit, adamw, unseeded_batches(), dropout=0.2)}


def unseeded_conv(strategy):
    return {"unseeded_conv": trained(strategy, conv_net, adamw, own_batches(strategy), dropout=0.2)}


def moving_statistics(strategy):
    """Return the moving statistics of batch normalization after plain `model.fit`, and the results of `evaluate`."""
    with strategy.scope():
        images = keras.Input((SIZE, SIZE, 3))
        layer = keras.layers.BatchNormalization(momentum=0.5)
        x = keras.layers.GlobalAveragePooling2D()(layer(images))
        model = keras.Model(images, keras.layers.Dense(4, activation="softmax")(x))
        model.compile("sgd", "categorical_crossentropy")
    model.fit(batches(), shuffle=False, verbose=0)
    return {
        "moving_statistics": [keras.ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance)],
        "evaluation": [np.array(model.evaluate(batches(), verbose=0))],
    }


def without_ours(strategy):
    """Return the errors of `fit` with TensorFlow's `reduce`, as it is and applied to each part of a tuple.

    An empty string means that there was no error.
    """
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
    """Kill the process after a number of steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(strategy, dropout, run_dir, kill_at, resume):
    """Run `training.fit` for two epochs. With dropout, replicas draw different random numbers than one device."""
    data = training.digits()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = conv_net(dropout, size=8, channels=1, classes=10)
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
        if case in ("fit", "fit_with_dropout"):
            dropout = 0.2 if case == "fit_with_dropout" else 0.0
            results.update(fit(strategy, dropout, args.run_dir, args.kill_at, args.resume))
        elif case in STEPS_OF:
            results.update(steps_of(case, strategy))
        else:
            cases = (unseeded_vit, unseeded_conv, without_ours, moving_statistics)
            results.update({function.__name__: function for function in cases}[case](strategy))
    np.savez(
        args.output, **{f"{name}/{i:03}": value for name, values in results.items() for i, value in enumerate(values)}
    )


if __name__ == "__main__":
    main()
