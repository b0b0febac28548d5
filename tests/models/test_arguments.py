"""The arguments of builders in the words of other libraries, and NumPy's numbers."""

import re

import numpy as np
import pytest

import keras_vit
from keras_vit.models import registry

SMALL = {"input_shape": (8, 8, 3), "patch_size": 4, "width": 8, "depth": 1, "num_heads": 1}


@pytest.mark.parametrize("builder", ["ViT", "ViT_Ti16"])
@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"num_classes": 10}, "Pass classes=10"),
        ({"num_classes": np.int64(10)}, "Pass classes=10"),
        ({"num_labels": 3}, "Pass classes=3."),
        ({"img_size": 224}, "Pass input_shape=(height, width, channels)"),
        ({"in_chans": 1}, "Pass input_shape=(height, width, channels)"),
        ({"global_pool": "avg"}, "Pass pooling='avg'."),
        ({"drop_rate": 0.1}, "Pass dropout_rate=0.1."),
        ({"attn_drop_rate": 0.1}, "Pass attention_dropout_rate=0.1."),
        ({"pretrained": True}, "Pass weights=TAG"),
        ({"embed_dim": 192}, "Pass width=192."),
        ({"hidden_size": 192}, "Pass width=192."),
        ({"mlp_ratio": 4}, "Pass mlp_dim"),
        ({"clases": 3}, "The nearest are classes, "),
        ({"quux": 3}, "It has include_top, weights"),
    ],
)
def test_a_word_of_another_library_is_answered_with_ours(builder, given, answer):
    (name,) = given
    with pytest.raises(TypeError, match=re.escape(f"{builder} has no argument {name!r}; received {name}=")) as error:
        getattr(keras_vit, builder)(**given)
    assert answer in str(error.value)


@pytest.mark.parametrize("builder", registry.builders())
def test_timms_first_words_are_answered_by_every_builder(builder):
    for name, ours in (("num_classes", "classes"), ("img_size", "input_shape"), ("global_pool", "pooling")):
        with pytest.raises(TypeError, match=rf"{builder} has no argument '{name}'; .* Pass {ours}="):
            getattr(keras_vit, builder)(**{name: 3})


def test_drop_path_rate_is_the_same_word():
    assert keras_vit.ViT(drop_path_rate=0.1, classes=2, **SMALL).output_shape == (None, 2)


def test_one_number_for_the_input_shape_is_refused_with_three():
    for size in (224, np.int64(224)):
        with pytest.raises(TypeError, match=r"ViT: input_shape must be .*received 224\. Pass \(224, 224, 3\)\."):
            keras_vit.ViT_XS16(input_shape=size)


def test_numpy_numbers_are_numbers():
    labels = np.array([0, 3, 1])
    shape = np.array([8, 8, 3])
    for given in (tuple(shape), list(shape)):
        model = keras_vit.ViT(np.bool_(True), classes=labels.max() + 1, **{**SMALL, "input_shape": given})
        assert model.input_shape == (None, 8, 8, 3) and model.output_shape == (None, 4)
    assert isinstance(keras_vit.ViT(dropout_rate=np.float32(0.5), classes=2, **SMALL).get_config(), dict)
