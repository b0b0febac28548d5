"""Compare the images per second in training a ViT-Ti/16 with keras-hub's model of the same size."""

import statistics
import time

import numpy as np

from keras_vit.utils.tables import table

BATCH, STEPS = 32, 12
TARGET = 1.1  # Smallest allowed ratio to the rate of keras-hub's model.


def main() -> None:
    import keras

    import keras_vit

    try:
        from keras_hub.models import ViTBackbone, ViTImageClassifier
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; this benchmark needs keras-hub: pip install keras-hub") from None
    backbone = ViTBackbone(
        image_shape=(224, 224, 3), patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
    )
    models = {
        "keras-hub": ViTImageClassifier(backbone, num_classes=1000),
        "keras_vit": keras_vit.ViT_Ti16(classifier_activation=None),
    }
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCH, 224, 224, 3)).astype("float32")
    labels = np.eye(1000, dtype="float32")[random.integers(0, 1000, BATCH)]
    for model in models.values():
        model.compile(keras.optimizers.AdamW(1e-4), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[])
        model.train_on_batch(images, labels)  # Compiles.

    def seconds(model):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        return time.perf_counter() - start

    # The models take turns, so that a slower machine slows both.
    rounds = [{name: seconds(model) for name, model in models.items()} for _ in range(STEPS)]
    rates = {name: BATCH / statistics.median(times[name] for times in rounds) for name in models}
    print(table(("package", "images/s"), [(name, f"{rate:.1f}") for name, rate in rates.items()]))
    ratio = statistics.median(times["keras-hub"] / times["keras_vit"] for times in rounds)
    print(f"keras_vit trains on {ratio:.2f} times as many images per second; the target is at least {TARGET}")
