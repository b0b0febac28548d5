"""Compare the latency of a float32 ViT-Ti/16 with that of keras-hub's, exported with Keras' own `export`."""

import os
import tempfile

from keras_vit.utils.tables import table

TARGET = 0.95  # Largest allowed ratio to keras-hub's p50.


def export_keras_hub(path: str) -> None:
    """Export a ViT-Ti/16 of keras-hub with random weights, for 224 x 224 images and 1000 classes."""
    try:
        from keras_hub.models import ViTBackbone, ViTImageClassifier
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; this benchmark needs keras-hub: pip install keras-hub") from None
    from tests.benchmarks.weights import randomize

    backbone = ViTBackbone(
        image_shape=(224, 224, 3), patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
    )
    model = ViTImageClassifier(backbone, num_classes=1000, activation="softmax")
    randomize(model)
    model.export(path, format="litert", verbose=False)


def main() -> None:
    import keras_vit
    from keras_vit import edge
    from tests.benchmarks.weights import randomize

    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, f"{name}.tflite") for name in ("keras_hub", "keras_vit")}
        export_keras_hub(paths["keras_hub"])
        model = keras_vit.ViT_Ti16()
        randomize(model)
        edge.export(model, paths["keras_vit"], precision="float32")
        results = edge.benchmark(list(paths.values()))
        partitions = [(name, str(edge.audit(path).partitions)) for name, path in paths.items()]
    print(results)
    print(table(("package", "XNNPACK partitions"), partitions))
    ratio = results[1].p50_ms / results[0].p50_ms
    print(f"keras_vit takes {ratio:.2f} of keras-hub's time; the target is at most {TARGET}")
