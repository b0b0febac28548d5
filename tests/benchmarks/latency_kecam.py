"""Compare the latency of float32 files with those that keras-cv-attention-models converts with Keras 2."""

import os
import subprocess
import sys
import tempfile

from keras_vit.utils.tables import table

MODELS = {  # Our name, their name, and the largest allowed ratio of our p50 to theirs.
    "mobilevit_s": ("mobilevit.MobileViT_S", 0.95),
    "efficientvit_b1": ("efficientvit.EfficientViT_B1", 1.0),
    "efficientvit_m2": ("efficientvit.EfficientViT_M2", 0.85),
}
_EXPORT = """
import sys
import tensorflow as tf
import keras_cv_attention_models
from tests.benchmarks.weights import randomize_with

family, _, name = sys.argv[1].partition(".")
size = int(sys.argv[3])
model = getattr(getattr(keras_cv_attention_models, family), name)(input_shape=(size, size, 3), pretrained=None)
randomize_with(model.weights, lambda weight: weight.name.rpartition("/")[2])
image = tf.keras.Input((size, size, 3), batch_size=1)
content = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(image, model(image))).convert()
with open(sys.argv[2], "wb") as file:
    file.write(content)
"""


def export_kecam(model: str, path: str, size: int) -> None:
    """Export a model of keras-cv-attention-models with random weights, in a separate process with Keras 2."""
    command = [sys.executable, "-c", _EXPORT, model, path, str(size)]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "No module named" in result.stderr:
        raise SystemExit(
            f"{result.stderr.strip().splitlines()[-1]}; this benchmark needs keras-cv-attention-models and tf-keras: "
            "pip install --no-deps keras-cv-attention-models"
        )
    result.check_returncode()


def main() -> None:
    import keras_vit
    from keras_vit import edge
    from tests.benchmarks.weights import randomize

    rows = []
    for name, (theirs, target) in MODELS.items():
        model = keras_vit.create_model(name)
        randomize(model)
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"{package}.tflite") for package in ("keras_vit", "kecam")]
            edge.export(model, paths[0])
            export_kecam(theirs, paths[1], model.input_shape[1])
            ours, other = (result.p50_ms for result in edge.benchmark(paths))
            partitions = " and ".join(str(edge.audit(path).partitions) for path in paths)
        rows.append((name, f"{ours:.2f}", f"{other:.2f}", f"{ours / other:.2f}", f"{target:.2f}", partitions))
    print(table(("model", "keras_vit p50 ms", "kecam p50 ms", "ratio", "target", "partitions"), rows))
