"""Save, load and export every size of ViT, DeiT, DeiT III and DINOv2."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from tests.test_backends import outputs_on_jax

VARIANTS = [*keras_vit.list_models("vit_*"), *keras_vit.list_models("deit*"), *keras_vit.list_models("dinov2_*")]
# Models of which a small machine can hold several copies at full depth.
UNDER_100_MILLION = [
    name
    for name in VARIANTS
    if name.removesuffix("_reg").rstrip("0123456789")
    not in ("vit_l", "vit_h", "vit_g", "vit_gg", "deit3_l", "deit3_h", "dinov2_l", "dinov2_g")
]


def patch_of(name):
    _, size = name.split("_", 1)
    return int("".join(filter(str.isdigit, size)))


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    return loaded


@pytest.mark.parametrize("name", VARIANTS)
def test_one_block_of_every_variant_saves_and_loads(name, tmp_path):
    size = 2 * patch_of(name)
    model = keras_vit.create_model(name, depth=1, classes=7, input_shape=(size, size, 3))
    image = np.random.default_rng(0).random((1, size, size, 3), "float32")
    outputs = np.asarray(model(image))
    assert outputs.shape == (1, 7) and np.isclose(outputs.sum(), 1, atol=1e-5)
    np.testing.assert_array_equal(saved_and_loaded(model, tmp_path)(image), outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDER_100_MILLION)
def test_every_variant_at_full_size(name, tmp_path):
    size = 364 if name.endswith("28") else 224
    model = keras_vit.create_model(name, classifier_activation=None, input_shape=(size, size, 3))
    assert model.count_params() < 100e6
    image = np.random.default_rng(0).standard_normal((1, size, size, 3)).astype("float32")
    outputs = np.asarray(model(image))
    scale = np.abs(outputs).max()
    np.testing.assert_array_equal(saved_and_loaded(model, tmp_path)(image), outputs)
    np.testing.assert_allclose(outputs_on_jax(tmp_path / "model.keras", image, tmp_path), outputs, atol=1e-4 * scale)
    file = edge.export(model, tmp_path / "model.tflite")
    audit = edge.audit(file)
    assert audit.partitions <= 2 and not audit.findings
    assert edge.verify(model, file, image).max_abs_error < 1e-4 * scale
