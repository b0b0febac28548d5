"""Measure how well hybrid_int8 files agree with their float models without quantization-aware training.

    python -m tests.benchmarks after_training

The ranges come from 32 smooth random images, and 32 others are compared. The weights are random, with three seeds, and
batch normalization has its initial statistics. The signal-to-noise ratio of dynamic_int8 files stands beside: their
kernels are the same integers, so it says what the fixed ranges cost.
"""

import tempfile
from pathlib import Path

import numpy as np

from keras_vit.utils.tables import table
from tests.benchmarks.weights import randomize_scales

TARGETS = {  # Least signal-to-noise ratio in dB.
    "mobilevit_s": 18.0,
    "mobilevit_xxs": 18.0,
    "mobilevitv2_100": 18.0,
    "efficientvit_b1": 16.0,
    "vit_ti16": 31.0,
    "deit_s16": 31.0,
    "mobile_former_294m": 18.0,
}
SEEDS = (0, 1, 2)
PRECISIONS = ("hybrid_int8", "dynamic_int8")
IMAGES, COARSE = 32, 16


def smooth_images(count: int, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Return images of random blobs that are 16 pixels apart, with mean 0 and variance 1."""
    import tensorflow as tf

    shape = (count, -(-height // COARSE), -(-width // COARSE), channels)
    noise = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    images = tf.image.resize(noise, (height, width), "bicubic").numpy()
    return (images - images.mean()) / images.std()


def snr_db(name: str, seed: int) -> dict[str, float]:
    """Return the signal-to-noise ratio in dB of files of a model against the model, by precision."""
    import keras

    import keras_vit
    from keras_vit import edge

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = keras_vit.create_model(name, classifier_activation=None, drop_path_rate=0.0)
    randomize_scales(model, seed)
    calibration, others = (smooth_images(IMAGES, *model.input_shape[1:], seed=2 * seed + part) for part in (0, 1))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            images = calibration if edge.SCHEMES[precision].needs_ranges else None
            file = edge.export(
                model, Path(folder) / f"{precision}.tflite", precision, calibration_data=images, verify=False
            )
            found[precision] = edge.verify(model, file, others).snr_db
    return found


def main(names=tuple(TARGETS)) -> None:
    rows = []
    for name in names:
        found = [snr_db(name, seed) for seed in SEEDS]
        mean = {precision: np.mean([each[precision] for each in found]) for precision in PRECISIONS}
        rows.append(
            (
                name,
                *(f"{each['hybrid_int8']:.1f}" for each in found),
                f"{mean['hybrid_int8']:.1f}",
                f"{TARGETS[name]:.0f}",
                f"{mean['dynamic_int8']:.1f}",
            )
        )
        print(*rows[-1], flush=True)
    print(table(("model", *(f"seed {seed}" for seed in SEEDS), "mean dB", "target", "dynamic_int8"), rows))
