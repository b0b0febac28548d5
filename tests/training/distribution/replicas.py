"""Train tiny models on one device and on two replicas, some with XLA, and print how much the results differ.

This is a separate program, because the devices of a process can't be changed once TensorFlow is running. Its arguments
are names of cases.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from keras_vit import training

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(32, 4, 1, 1)).astype("float32")
LABELS = RANDOM.dirichlet(np.full(4, 0.2), size=32).astype("float32")
RATE = training.Cosine(0.05, 10, 2, warmup_learning_rate=0.02)


def build(outputs=1, size=4):
    images = keras.Input((size, 1, 1))
    x = keras.layers.Dense(4, activation="tanh")(keras.layers.Flatten()(images))
    scores = [keras.layers.Dense(4)(x) for _ in range(outputs)]
    return keras.Model(images, scores if outputs > 1 else scores[0])


def with_optimizer(name, **settings):
    def make():
        model = build()
        return model, training.optimizer(name, model, RATE, weight_decay=0.1, clip_norm=0.1, **settings)

    return make


def with_sam(**settings):
    def make():
        model = build()
        training.use_sam(model, 0.5, **settings)
        return model, training.optimizer("sgd", model, RATE)

    return make


def with_loss_scale():
    model = build()
    optimizer = training.optimizer("adamw", model, RATE, clip_norm=0.1, accumulation_steps=2, ema_decay=0.9)
    return model, keras.optimizers.LossScaleOptimizer(optimizer)


def with_teacher(kind):
    def make():
        model, teacher = build(outputs=2), build(size=7)
        training.distill(model, teacher, kind=kind, temperature=2.0)
        return model, training.optimizer("adamw", model, RATE)

    return make


def with_keras_clipping():
    return build(), keras.optimizers.SGD(RATE, global_clipnorm=0.1)


CASES = {
    **{name: with_optimizer(name) for name in ("adafactor", "adamw", "lamb", "lars", "lion", "sgd")},
    "soap": with_optimizer("soap", frequency=2),
    "accumulation, average and layer decay": with_optimizer(
        "adamw", accumulation_steps=2, ema_decay=0.9, ema_warmup=True, layer_decay=0.5
    ),
    "adaptive clipping": with_optimizer("sgd", adaptive_clip=0.05, accumulation_steps=2),
    "SAM": with_sam(),
    "ASAM": with_sam(adaptive=True),
    "SAM of each replica": with_sam(per_replica=True),
    "loss scale": with_loss_scale,
    "hard distillation": with_teacher("hard"),
    "soft distillation": with_teacher("soft"),
    "Keras' clipping": with_keras_clipping,
}


# test_updates.py covers the updates of the optimizers with XLA.
WITH_XLA = ("SAM", "ASAM", "hard distillation", "accumulation, average and layer decay")
# These use the same code paths as one of the other cases.
SLOW = ("adafactor", "lamb", "lars", "lion", "soap", "ASAM", "soft distillation")


def trained(make, strategy, part=slice(None), **how):
    """Return the weights and averages after one step on each batch of 8 images, and the loss."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model, optimizer = make()
        # With cross-entropy, some components of the gradient are only rounding errors, for which SOAP is arbitrary.
        loss = "mse" if len(model.outputs) == 1 else keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, **how)
    assert model.jit_compile is how.get("jit_compile", False)
    data = tf.data.Dataset.from_tensor_slices((IMAGES[part], LABELS[part])).batch(8)
    history = model.fit(data, verbose=0, shuffle=False)
    averages = getattr(getattr(optimizer, "inner_optimizer", optimizer), "averages", [])
    state = [keras.ops.convert_to_numpy(variable).ravel() for variable in [*model.variables, *averages]]
    return np.concatenate([*state, history.history["loss"]])


def moving_statistics(strategy, synchronized):
    """Train batch normalization with plain `model.fit`, and return the largest error of the replicas' statistics.

    The layer is the first one, so its statistics depend only on the images. They are compared with NumPy: the mean is
    that of the whole batch. The variance is that of the whole batch if the replicas are synchronized, and otherwise the
    mean of the replicas' variances.
    """
    keras.utils.set_random_seed(0)
    with strategy.scope():
        images = keras.Input((4, 1, 1))
        layer = keras.layers.BatchNormalization(momentum=0.5)
        model = keras.Model(images, keras.layers.Dense(4)(layer(keras.layers.Flatten()(images))))
        if synchronized:
            training.synchronize(model)
        model.compile("sgd", "mse")
    shifted = IMAGES + np.arange(len(IMAGES), dtype="float32")[:, None, None, None]
    model.fit(tf.data.Dataset.from_tensor_slices((shifted, LABELS)).batch(8), verbose=0, shuffle=False)
    mean, variance = np.zeros(4), np.ones(4)
    for batch in shifted.reshape(-1, 8, 4):
        parts = batch[None] if synchronized else batch.reshape(2, 4, 4)
        mean = 0.5 * mean + 0.5 * batch.mean(0)
        variance = 0.5 * variance + 0.5 * parts.var(1).mean(0)
    return max(
        float(np.abs(np.array(local) - right).max())
        for variable, right in ((layer.moving_mean, mean), (layer.moving_variance, variance))
        for local in strategy.experimental_local_results(variable.value)
    )


def main(names):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = tf.distribute.get_strategy(), training.strategy("mirrored", devices=["CPU:0", "CPU:1"])
    distances = {}
    for name in names:
        make = CASES[name]
        right = trained(make, one, run_eagerly=True)
        others = {"replicas": trained(make, two)}
        if name in WITH_XLA:
            others["xla"] = trained(make, one, jit_compile=True)
        distances[name] = {way: float(np.abs(other - right).max()) for way, other in others.items()}
    if "SAM of each replica" in names:
        distances |= of_whole_batches(one, two)
    print(json.dumps(distances))


def of_whole_batches(one, two):
    """Return the differences of the cases that are not compared with training on one device."""
    distances = {}
    # If each half of the batch has its own perturbation, a gradient descent step is the mean of the halves' steps.
    each = CASES["SAM of each replica"]
    halves = [trained(each, one, slice(start, start + 4)) for start in (0, 4)]
    distances["SAM of each half"] = {"replicas": float(np.abs(np.mean(halves, 0) - trained(each, two, slice(8))).max())}
    for synchronized in (False, True):
        name = f"moving statistics, {'synchronized' if synchronized else 'apart'}"
        distances[name] = {"replicas": moving_statistics(two, synchronized)}
    return distances


if __name__ == "__main__":
    main(sys.argv[1:])
