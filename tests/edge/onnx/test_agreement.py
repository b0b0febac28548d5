"""An int8 file gives the class that the quantized model gives, as far as rounding leaves the class open at all.

A value near the middle of two steps is rounded either way, and the next layers carry the difference on. A model with
random weights has nearly tied classes, which this decides; a trained model has not.
"""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_vit
from keras_vit import edge


@pytest.fixture(scope="module")
def trained():
    """A ViT trained on the digits, quantized with symmetric ranges and trained on, and images to test it on."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    images = (digits.images[..., None] / 8 - 1).astype("float32").repeat(2, 1).repeat(2, 2)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1400], order[1400:]
    model = keras_vit.ViT(
        input_shape=(16, 16, 1), patch_size=4, width=64, depth=3, num_heads=4, classes=10, classifier_activation=None
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss)
    model.fit(images[train], digits.target[train], epochs=25, batch_size=64, verbose=0)
    quantized = edge.quantize_aware(model, scheme="symmetric_int8", calibration_data=images[:256])
    quantized.compile(keras.optimizers.AdamW(1e-4), loss)
    quantized.fit(images[train], digits.target[train], epochs=2, batch_size=64, verbose=0)
    assert (model.predict(images[test], verbose=0).argmax(-1) == digits.target[test]).mean() > 0.95
    return quantized, images[test]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_trained_model_and_its_file_agree(kind, trained, tmp_path):
    quantized, images = trained
    result = edge.verify(quantized, edge.export(quantized, tmp_path / f"model.{kind}"), images)
    assert result.images == 397 and result.top1_agreement >= 0.99 and result.snr_db >= 28


def test_classes_that_are_not_tied_agree(symmetric_vit, open_onnx, tmp_path):
    images = np.random.default_rng(0).normal(size=(128, 16, 16, 3)).astype("float32")
    wanted = symmetric_vit.predict(images, verbose=0)
    (given,) = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx"))(images)
    best = np.sort(wanted, axis=-1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 2 * np.sqrt(np.square(wanted - given).mean())
    assert clear.sum() > 90
    assert (wanted.argmax(-1) == given.argmax(-1))[clear].mean() >= 0.99
