"""CvT: costs, layers against their formulas, outputs, weights, other image sizes, files and errors."""

import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.graph.flattening import leaves
from keras_vit.layers import LayerNorm
from keras_vit.layers.activations import QuickGELU
from keras_vit.models.cvt.conv_attention import ConvAttention, ConvTokenAttention
from keras_vit.training.optimizers.factory import layer_depths
from tests.layers.test_layers import randomized, weights
from tests.models.cases import IMAGES, TOKENS, build, randomize
from tests.models.cvt.forms import TINY
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.reference import SCALES, fixture, images, relative_error, timm_file, timm_weights

QUICK = ("cvt_13",)
PARAMETERS = {"cvt_13": 19_997_480, "cvt_21": 31_622_696, "cvt_w24": 277_196_392}
PICTURES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")


def tiny(**settings):
    return build("cvt: CvT", **settings)


def marked(names):
    """Yield the names; the largest models are left to the slow tests."""
    for name in names:
        yield pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", marked(PARAMETERS))
def test_parameters(name):
    assert keras_vit.model_info(name)["parameters"] == PARAMETERS[name]


def test_multiply_accumulates():
    """The paper's table 3 has 4.5 billion; it leaves out some of the products."""
    assert keras_vit.model_info("cvt_13")["macs"] == pytest.approx(4.5e9, rel=0.02)


def test_every_variant_has_its_parameters():
    assert keras_vit.list_models("cvt*") == sorted(PARAMETERS)


def projected(maps, w, strides, name):
    """Compute a depthwise convolution with a batch normalization at every pixel, and the dense layer behind it."""
    kernel = w[f"{name}_conv/conv/kernel"][..., 0]
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = range(0, maps.shape[1], strides), range(0, maps.shape[2], strides)
    x = np.array([[(padded[:, r : r + 3, c : c + 3] * kernel).sum((1, 2)) for c in columns] for r in rows])
    x = x.transpose(2, 0, 1, 3).reshape(len(maps), -1, maps.shape[3])
    gamma, beta, mean, variance = (
        w[f"{name}_conv/norm/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def attention(sequences, w, heads):
    """Compute attention of queries to keys and values, head by head, divided by the root of the whole width."""
    query, key, value = (
        x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
        for name, x in zip(("query", "key", "value"), sequences, strict=True)
    )
    width = query.shape[-1]
    context = np.zeros_like(query)
    for head in np.split(np.arange(width), heads):
        scores = np.einsum("bnc,bmc->bnm", query[..., head], key[..., head]) * width**-0.5
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        context[..., head] = exponentials / exponentials.sum(-1, keepdims=True) @ value[..., head]
    return context @ w["projection/kernel"] + w["projection/bias"]


def with_statistics(layer, inputs):
    layer = randomized(layer, inputs)
    for variable in layer.non_trainable_weights:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(np.random.default_rng(2).uniform(0.5, 1.5, size=variable.shape))
    return layer


def test_attention_on_a_map_against_its_formula():
    layer = with_statistics(ConvAttention(3, 3), IMAGES)
    w = weights(layer)
    sequences = [projected(IMAGES, w, strides, name) for name, strides in (("query", 1), ("key", 2), ("value", 2))]
    assert [x.shape[1] for x in sequences] == [96, 24, 24]
    np.testing.assert_allclose(layer(IMAGES), attention(sequences, w, 3).reshape(IMAGES.shape), atol=1e-4)


def test_attention_with_a_class_token_against_its_formula():
    layer = with_statistics(ConvTokenAttention((2, 2), 12, 2), TOKENS)
    w = weights(layer)
    class_token, maps = TOKENS[:, :1], TOKENS[:, 1:].reshape(2, 2, 2, 12)
    sequences = [
        np.concatenate([class_token, projected(maps, w, strides, name)], axis=1)
        for name, strides in (("query", 1), ("key", 2), ("value", 2))
    ]
    np.testing.assert_allclose(layer(TOKENS), attention(sequences, w, 2), atol=1e-4)


def test_quick_gelu_against_its_formula():
    x = np.linspace(-9, 9, 50).astype("float32")
    np.testing.assert_allclose(QuickGELU()(x), x / (1 + np.exp(-1.702 * x)), atol=1e-6)


def test_fusing_leaves_one_activation_of_a_quick_gelu():
    fused = keras_vit.fuse(tiny())
    assert not [layer.name for layer in fused.layers if ".mlp.activation." in layer.name and "silu" not in layer.name]


class TestAChangedDetailDoesNotPassTheComparison:
    reference = "cvt_13"

    def error(self, model, outputs, folder):
        keras_vit.load_weights(model, timm_file(self.reference, folder, SCALES[outputs]))
        return relative_error(logits(model), fixture(self.reference)[outputs])

    def test_the_activation_of_transformers(self, tmp_path):
        model = keras_vit.CvT_13(classifier_activation=None, activation="gelu")
        assert self.error(model, "logits", tmp_path) > 1e-3

    def test_the_scale_of_a_heads_width(self, tmp_path):
        model = keras_vit.CvT_13(classifier_activation=None)
        for name, layer in leaves(model):
            if name.endswith("attention.scale"):
                layer.factor = 64**-0.5
        assert self.error(model, "logits", tmp_path) > 1e-3

    @pytest.mark.slow
    def test_the_epsilons(self, tmp_path):
        model = keras_vit.CvT_13(classifier_activation=None, epsilon=1e-6)
        assert self.error(model, "logits_small", tmp_path) > 1e-2

    @pytest.mark.slow
    def test_the_epsilons_of_batch_normalizations(self, tmp_path):
        model = keras_vit.CvT_13(classifier_activation=None)
        for _, layer in leaves(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.epsilon = 1e-3
        assert self.error(model, "logits_small", tmp_path) > 1e-2


def hugging_face(arrays):
    """Return the arrays under the names of transformers."""
    conv = r"attention.attention.convolution_projection_\1.convolution_projection"
    names = [
        (r"^stage(\d)\.patch_embed\.proj", r"cvt.encoder.stages.\1.embedding.convolution_embeddings.projection"),
        (r"^stage(\d)\.patch_embed\.norm", r"cvt.encoder.stages.\1.embedding.convolution_embeddings.normalization"),
        (r"^stage(\d)\.blocks\.", r"cvt.encoder.stages.\1.layers."),
        (r"^stage(\d)\.cls", r"cvt.encoder.stages.\1.cls"),
        (r"attn\.conv_proj_(\w)\.conv", f"{conv}.convolution"),
        (r"attn\.conv_proj_(\w)\.bn", f"{conv}.normalization"),
        (r"attn\.proj_(\w)", r"attention.attention.projection_\1"),
        (r"attn\.proj\.", "attention.output.dense."),
        (r"projection_q(?=\.)", "projection_query"),
        (r"projection_k(?=\.)", "projection_key"),
        (r"projection_v(?=\.)", "projection_value"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"norm1", "layernorm_before"),
        (r"norm2", "layernorm_after"),
        (r"^norm\.", "layernorm."),
        (r"^head\.", "classifier."),
    ]
    renamed = {}
    for name, array in arrays.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        renamed[name] = array
    return renamed


def test_names_of_transformers(tmp_path):
    arrays = hugging_face(timm_weights("cvt_13"))
    counter = "cvt.encoder.stages.0.layers.0.attention.attention.convolution_projection_key.convolution_projection."
    save_file({**arrays, f"{counter}normalization.num_batches_tracked": np.array(7)}, tmp_path / "model.safetensors")
    model = keras_vit.CvT_13(classifier_activation=None)
    report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
    assert report.project == "Hugging Face" and not report.unused
    assert relative_error(np.asarray(model(images(224)[:1])), fixture("cvt_13")["logits"][:1]) < 1e-4


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 5, 16)), ("token", (None, 16)), ("avg", (None, 16))])
def test_without_the_top(pooling, shape):
    model, tokens = (tiny(include_top=False, pooling=each) for each in (pooling, None))
    assert model.output_shape == shape
    expected = np.asarray(tokens(PICTURES))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(PICTURES), expected, atol=1e-5)


def test_features_and_attention():
    model = tiny()
    features = keras_vit.feature_extractor(model, "pyramid")(PICTURES)
    assert {name: map.shape for name, map in features.items()} == {
        "stride_4": (2, 7, 6, 8),
        "stride_8": (2, 4, 3, 12),
        "stride_16": (2, 2, 2, 16),
    }
    maps = keras_vit.attention_maps(model, PICTURES)
    assert {name: map.shape for name, map in maps.items()} == {
        "stage_0_block_0": (2, 1, 42, 12),
        "stage_1_block_0": (2, 3, 12, 4),
        "stage_2_block_0": (2, 2, 5, 2),
        "stage_2_block_1": (2, 2, 5, 2),
    }
    assert all(np.allclose(map.sum(-1), 1, atol=1e-5) for map in maps.values())


@pytest.mark.parametrize("size", [(30, 23), (49, 70), (33, 17), (64, 48)])
def test_another_image_size(size):
    """No weight depends on the size of the images, and each map has the size that the convolutions give."""
    model = tiny()
    resized = keras_vit.resize_model(model, (*size, 3))
    direct = keras_vit.CvT(**{**TINY, "input_shape": (*size, 3)}, classes=5, classifier_activation=None)
    direct.set_weights(model.get_weights())
    picture = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    np.testing.assert_allclose(resized(picture), direct(picture), atol=1e-6)


def test_learning_rates_by_depth():
    model = tiny()
    depths = {v.path: depth for v, depth in zip(model.trainable_variables, layer_depths(model), strict=True)}
    assert depths["stage_0_embedding/projection/kernel"] == 0 and depths["head/kernel"] == 5
    blocks = [(0, 0), (1, 0), (2, 0), (2, 1)]
    assert [depths[f"stage_{i}_block_{j}/mlp/expand/kernel"] for i, j in blocks] == [1, 2, 3, 4]


def test_stochastic_depth_rises_in_the_last_stage():
    model = tiny(drop_path_rate=0.2)
    blocks = [model.get_layer(f"stage_{i}_block_{j}") for i, j in ((0, 0), (1, 0), (2, 0), (2, 1))]
    assert [block.drop_path2.rate for block in blocks] == [0, 0, 0, 0.2]


def test_every_norm_has_the_epsilon_of_the_authors():
    norms = [layer for _, layer in leaves(keras_vit.CvT_13()) if isinstance(layer, LayerNorm)]
    assert len(norms) == 3 + 2 * 13 + 1 and {norm.epsilon for norm in norms} == {1e-5}


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("cvt_13", "cvt_13", tmp_path)


class TestBadInput:
    def test_stages_without_heads(self):
        with pytest.raises(ValueError, match=r"a number for each stage; received .*num_heads=\(2,\)"):
            tiny(num_heads=(2,))

    def test_heads_that_do_not_divide_the_channels(self):
        with pytest.raises(ValueError, match="num_heads must divide width; received num_heads=5 and width=12"):
            tiny(num_heads=(1, 5, 2))

    def test_images_of_two_pixels(self):
        with pytest.raises(ValueError, match="2 x 9 pixels is too small for a kernel of 7 x 7 with a padding of 2"):
            tiny(input_shape=(2, 9, 3))

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'token', 'avg' or None; received 'max'"):
            tiny(include_top=False, pooling="max")

    def test_tokens_of_another_map(self):
        with pytest.raises(ValueError, match=r"2 x 3 pixels expects \(batch, 7, width\); received .*\(2, 5, 12\)"):
            ConvTokenAttention((2, 3), 12, 3)(TOKENS)

    def test_weights_of_another_family(self, tmp_path):
        model = tiny()
        randomize(model)
        save_file({"stages.0.blocks.0.attn.q.weight": np.zeros((3, 3), "float32")}, tmp_path / "pvt.safetensors")
        with pytest.raises(ValueError, match=r"holds weights of another model: none of its 1 arrays"):
            keras_vit.load_weights(model, tmp_path / "pvt.safetensors")
