"""Train without labels under a strategy, and write all variables. Each worker of a job runs this program.

This is a separate program, because devices and workers can't be changed once TensorFlow is running.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_vit
from keras_vit import training

TINY = dict(include_top=False, input_shape=(8, 8, 1), width=16, depth=1, num_heads=2)
RUN = dict(epochs=1, learning_rate=0.1, clip_norm=None, clip_variable_norm=1.0, verbose=0)
SGD = dict(optimizer="sgd", weight_decay=0.04, final_weight_decay=0.4)


def views():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype("uint8")
    crop = training.RandomResizedCrop
    large = training.Augmentation(crop(scale=(0.5, 1.0)), flip=0.0)
    small = training.Augmentation(crop(scale=(0.2, 0.5)), flip=0.0, image_size=4)
    labels = np.arange(24) % 2
    settings = dict(image_size=8, batch_size=8, channels=1, augmentation=(large, large, small))
    return training.arrays(pixels, labels, validation=(pixels, labels), **settings)


def digits():
    return training.digits(8, batch_size=400)


DINO = training.DINO(prototypes=12, hidden=8, bottleneck=8, teacher_momentum=0.5, frozen_epochs=0)
# By name: the builder of the encoder, its settings, the data and the method.
CASES = {
    "mae": (keras_vit.ViT, {"patch_size": 4}, digits, training.MAE(decoder_width=16, decoder_depth=1, pictures=0)),
    "dino": (keras_vit.ViT, {"patch_size": 4}, views, DINO),
    "tokenizer": (keras_vit.ViT, {"patch_size": 4}, digits, training.Tokenizer(vocabulary=5, width=8, depth=1)),
    "beit": (keras_vit.BEiT, {"patch_size": 4}, digits, training.BEiT(mask_ratio=0.5, smallest_block=1)),
    "instance_discrimination": (keras_vit.ViT, {"patch_size": 4}, views, training.InstanceDiscrimination()),
    "igpt": (keras_vit.iGPT, {"num_colors": 4}, digits, training.IGPT(color_images=64)),
}


def trained(name, strategy):
    """Return all variables of the model after training, the teacher and the center included."""
    builder, settings, data, method = CASES[name]
    kept = []

    class Keep(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            kept.extend(keras.ops.convert_to_numpy(variable) for variable in self.model.weights)

    keras.utils.set_random_seed(0)
    with strategy.scope():
        encoder = builder(**TINY, **settings, **method.encoder_settings)
    with tempfile.TemporaryDirectory() as folder:
        if name == "beit":
            tokenizer = training.image_tokenizer((8, 8, 1), patch_size=4, vocabulary=5, width=8, depth=1)
            tokenizer.save(Path(folder) / "tokenizer.keras")
            method = dataclasses.replace(method, tokenizer=str(Path(folder) / "tokenizer.keras"))
        run_dir = Path(folder) / "run"
        training.pretrain(encoder, data(), method, run_dir=run_dir, callbacks=[Keep()], **RUN, **SGD)
    return kept


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--workers")
    parser.add_argument("--index", type=int)
    parser.add_argument("methods", nargs="+")
    given = parser.parse_args()
    if given.workers:
        strategy = training.strategy("multi_worker", workers=given.workers.split(","), index=given.index, timeout=60)
    elif given.replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * given.replicas)
        strategy = training.strategy("mirrored", devices=[f"CPU:{index}" for index in range(given.replicas)])
    else:
        strategy = training.strategy("cpu")
    arrays = {name: trained(name, strategy) for name in given.methods}
    np.savez(given.output, **{f"{name}/{i:03}": value for name, each in arrays.items() for i, value in enumerate(each)})


if __name__ == "__main__":
    main()
