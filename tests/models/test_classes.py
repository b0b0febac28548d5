"""The names of a model's classes, in every form that the model takes."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge

NAMES = ("Lime", "apple", "\u00e4rger")


def model(**settings):
    return keras_vit.ViT(
        **{"classes": 3, "input_shape": (8, 8, 3), "patch_size": 4, "width": 8, "depth": 1, "num_heads": 1, **settings}
    )


def test_names_survive_what_is_done_to_a_model(tmp_path):
    named = model()
    assert keras_vit.class_names(named) is None
    keras_vit.set_class_names(named, NAMES)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    forms = {
        "itself": named,
        "flat": keras_vit.flatten(named),
        "fused": keras_vit.fuse(named),
        "resized": keras_vit.resize_model(named, (16, 16, 3)),
        "cloned": keras.models.clone_model(named),
        "quantized": edge.quantize_aware(named, calibration_data=images),
        "nested": keras.Sequential([keras.Input((8, 8, 3)), named]),
    }
    for name, form in forms.items():
        assert keras_vit.class_names(form) == NAMES, name
        form.save(tmp_path / f"{name}.keras")
        assert keras_vit.class_names(keras.models.load_model(tmp_path / f"{name}.keras")) == NAMES, name


def test_a_new_head_has_new_classes():
    named = model()
    keras_vit.set_class_names(named, NAMES)
    assert keras_vit.class_names(keras_vit.new_head(named, 3)) is None
    assert keras_vit.class_names(named) == NAMES


def test_names_belong_to_scores():
    named = model()
    with pytest.raises(ValueError, match=r"scores of shape \(None, 3\), .* received 2"):
        keras_vit.set_class_names(named, ["a", "b"])
    with pytest.raises(ValueError, match="must differ"):
        keras_vit.set_class_names(named, ["a", "b", "a"])
    keras_vit.set_class_names(named, NAMES)
    # Another output is not named by them.
    assert keras_vit.class_names(keras.Model(named.input, named.layers[-2].output[..., :2])) is None
    keras_vit.set_class_names(named, None)
    assert keras_vit.class_names(named) is None


def test_a_model_of_other_layers_has_no_names():
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    keras_vit.set_class_names(plain, ["a", "b"])
    assert keras_vit.class_names(plain) is None
