"""Compare the images per second of the input pipeline in DeiT's recipe with those of Keras' layers."""

import os
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from keras_vit.utils.tables import table

IMAGES, SIZE, BATCH = 448, 224, 64
ROUNDS = 3
TARGET = 3.0  # Smallest allowed ratio to the rate of Keras' layers.


def _write_photographs(folder: str) -> None:
    """Write JPEG files with the usual image and file size of ImageNet, and with detail at all scales."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        layers = [(4, 0.5), (16, 0.25), (64, 0.15), (500, 0.1)]
        noise = (Image.fromarray(rng.integers(0, 256, (n * 3 // 4, n, 3), dtype=np.uint8)) for n, _ in layers)
        picture = sum(
            share * np.asarray(part.resize((500, 375)), "float32")
            for part, (_, share) in zip(noise, layers, strict=True)
        )
        os.makedirs(os.path.join(folder, f"class {number % 4}"), exist_ok=True)
        path = os.path.join(folder, f"class {number % 4}", f"{number}.jpg")
        Image.fromarray(picture.astype(np.uint8)).save(path, quality=95)


def _ours(folder: str):
    from keras_vit import training

    data = training.image_folder(
        folder,
        image_size=SIZE,
        batch_size=BATCH,
        statistics=training.Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        validation_fraction=0.01,
        augmentation=training.Augmentation(policy=training.RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0),
    )
    return lambda epoch: data.train(epoch)


def _keras(folder: str):
    """Build the recipe from Keras' layers. They have no crop of random area, so a cheaper random crop replaces it."""
    layers = keras.layers
    crop = (
        layers.Resizing(256, 256, "bicubic", crop_to_aspect_ratio=True, antialias=True),
        layers.RandomCrop(SIZE, SIZE),
    )
    augment = (
        layers.RandomFlip("horizontal"),
        layers.RandAugment((0, 255), num_ops=2, factor=0.9),
        layers.RandomErasing(factor=(0.25, 0.25), scale=(0.02, 1 / 3)),
        layers.Rescaling([1 / 58.4, 1 / 57.1, 1 / 57.4], [-2.12, -2.04, -1.80]),
    )
    mix = layers.MixUp(alpha=0.8), layers.CutMix(factor=1.0)
    files = tf.data.Dataset.list_files(os.path.join(folder, "*", "*.jpg"), shuffle=False)

    def in_turn(chain, images):
        for layer in chain:
            images = layer(images, training=True)
        return images

    def read(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return in_turn(crop, tf.cast(image, tf.float32)), tf.one_hot(0, 4)

    def augmented(images, labels):
        batch = {"images": in_turn(augment, images), "labels": labels}
        batch = tf.cond(
            tf.random.uniform([]) < 0.5, lambda: mix[0](batch, training=True), lambda: mix[1](batch, training=True)
        )
        return batch["images"], batch["labels"]

    batches = (
        files.shuffle(IMAGES)
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH, drop_remainder=True)
        .map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return lambda epoch: batches


def _rate(batches: tf.data.Dataset) -> float:
    start, images = time.perf_counter(), 0
    for batch, _ in batches:
        images += len(batch)
    return images / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_photographs(folder)
        pipelines = {"keras_vit": _ours(folder), "Keras' layers": _keras(folder)}
        for epoch in pipelines.values():
            _rate(epoch(0))
        rounds = [{name: _rate(epoch(number)) for name, epoch in pipelines.items()} for number in range(1, ROUNDS + 1)]
    rows = [(name, f"{statistics.median(round[name] for round in rounds):.1f}") for name in pipelines]
    print(table(("input pipeline", "images/s"), rows))
    ratio = statistics.median(round["keras_vit"] / round["Keras' layers"] for round in rounds)
    print(f"keras_vit takes {ratio:.1f} times as many images per second; the target is at least {TARGET}")
