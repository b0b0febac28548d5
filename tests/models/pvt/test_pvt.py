"""PVT and PVT v2: costs, layers against their formulas, outputs, weights, other image sizes, files and errors."""

import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from keras_vit.graph.flattening import leaves
from keras_vit.layers import LayerNorm
from keras_vit.layers.pooling import AdaptiveAveragePooling
from keras_vit.layers.spatial_reduction import SpatialReductionAttention
from keras_vit.models.pvt.depthwise_mlp import DepthwiseMLP
from tests.layers.test_layers import gelu, norm, randomized, weights
from tests.models.cases import IMAGES, build, images_of
from tests.models.files import check_files
from tests.models.pvt.forms import TINY
from tests.models.test_reference import logits
from tests.reference import SCALES, fixture, images, relative_error, timm_file, timm_weights

QUICK = ("pvt_t", "pvtv2_b0", "pvtv2_b2_li")
COSTS = {  # Parameters, and timm's multiply-accumulates where it has the model.
    "pvt_t": (13_229_288, None),
    "pvt_s": (24_485_864, None),
    "pvt_m": (44_208_104, None),
    "pvt_l": (61_369_320, None),
    "pvtv2_b0": (3_666_760, 566_065_664),
    "pvtv2_b1": (14_009_000, 2_108_355_584),
    "pvtv2_b2": (25_362_856, 4_026_734_592),
    "pvtv2_b2_li": (22_553_512, 3_888_850_944),
    "pvtv2_b3": (45_238_696, 6_897_303_552),
    "pvtv2_b4": (62_556_072, 10_101_116_416),
    "pvtv2_b5": (81_956_008, 11_717_260_288),
}
PICTURES = np.random.default_rng(0).normal(size=(2, 32, 24, 3)).astype("float32")
both = pytest.mark.parametrize("version", ["PVT", "PVTv2"])


def tiny(version, **settings):
    return build(f"pvt: {version}", **settings)


def marked(names):
    """Yield the names; the largest models are left to the slow tests."""
    for name in names:
        yield pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", marked(COSTS))
def test_costs(name):
    info = keras_vit.model_info(name)
    parameters, macs = COSTS[name]
    assert info["parameters"] == parameters and macs in (None, info["macs"])


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("pvt*") == sorted(COSTS)


def convolution(x, kernel, bias, strides, padding=0):
    """Compute a convolution (batch, height, width, inputs), or a depthwise one, position by position."""
    x = np.pad(x.astype("float64"), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    side = kernel.shape[0]
    rows, columns = ((size - side) // strides + 1 for size in x.shape[1:3])
    is_depthwise = kernel.shape[3] == 1 < kernel.shape[2]
    outputs = np.zeros((len(x), rows, columns, kernel.shape[2 if is_depthwise else 3]))
    for row in range(rows):
        for column in range(columns):
            patch = x[:, row * strides : row * strides + side, column * strides : column * strides + side]
            outputs[:, row, column] = (
                (patch * kernel[..., 0]).sum((1, 2)) if is_depthwise else np.tensordot(patch, kernel, 3)
            )
    return outputs + bias


def attention_to(x, reduced, w, heads):
    """Compute attention of the pixels of a map to those of another one, head by head."""
    batch, channels = len(x), x.shape[-1]
    query = x.reshape(batch, -1, channels) @ w["query/kernel"] + w["query/bias"]
    key, value = (
        reduced.reshape(batch, -1, channels) @ w[f"{name}/kernel"] + w[f"{name}/bias"] for name in ("key", "value")
    )
    context = np.zeros_like(query)
    for head in np.split(np.arange(channels), heads):
        scores = np.einsum("bnc,bmc->bnm", query[..., head], key[..., head]) * len(head) ** -0.5
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        context[..., head] = exponentials / exponentials.sum(-1, keepdims=True) @ value[..., head]
    return (context @ w["projection/kernel"] + w["projection/bias"]).reshape(x.shape)


def test_spatial_reduction_attention_against_its_formula():
    layer = randomized(SpatialReductionAttention(3, 3, reduction=4), IMAGES)
    w = weights(layer)
    reduced = norm(convolution(IMAGES, w["reduction/conv/kernel"], w["reduction/conv/bias"], 4), 1e-5)
    assert reduced.shape == (2, 2, 3, 3)
    expected = attention_to(IMAGES, reduced * w["reduction/norm/gamma"] + w["reduction/norm/beta"], w, 3)
    np.testing.assert_allclose(layer(IMAGES), expected, atol=1e-4)


def test_attention_to_averages_against_its_formula():
    layer = randomized(SpatialReductionAttention(3, 1, pooled_side=4), IMAGES)
    w = weights(layer)
    averages = IMAGES.reshape(2, 4, 2, 4, 3, 3).mean((2, 4))
    reduced = norm(convolution(averages, w["reduction/conv/kernel"], w["reduction/conv/bias"], 1), 1e-5)
    reduced = gelu(reduced * w["reduction/norm/gamma"] + w["reduction/norm/beta"])
    np.testing.assert_allclose(layer(IMAGES), attention_to(IMAGES, reduced, w, 1), atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_depthwise_mlp_against_its_formula(relu):
    layer = randomized(DepthwiseMLP(3, 7, relu=relu), IMAGES)
    w = weights(layer)
    hidden = IMAGES @ w["expand/kernel"] + w["expand/bias"]
    hidden = np.maximum(hidden, 0) if relu else hidden
    hidden = gelu(convolution(hidden, w["depthwise/kernel"], w["depthwise/bias"], 1, padding=1))
    np.testing.assert_allclose(layer(IMAGES), hidden @ w["contract/kernel"] + w["contract/bias"], atol=1e-4)


@pytest.mark.parametrize("side", [1, 3, 4, 5, 7])
def test_adaptive_averages_against_their_definition(side):
    """PyTorch's window i of n covers the pixels from floor(i * size / n) to ceil((i + 1) * size / n)."""
    expected = np.zeros((2, side, side, 3))
    for i in range(side):
        for j in range(side):
            rows = slice(int(np.floor(i * 8 / side)), int(np.ceil((i + 1) * 8 / side)))
            columns = slice(int(np.floor(j * 12 / side)), int(np.ceil((j + 1) * 12 / side)))
            expected[:, i, j] = IMAGES[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(AdaptiveAveragePooling(side)(IMAGES), expected, atol=1e-6)


class TestAChangedDetailDoesNotPassTheComparison:
    def error(self, model, name, outputs, folder):
        keras_vit.load_weights(model, timm_file(name, folder, SCALES[outputs]))
        return relative_error(logits(model), fixture(name)[outputs])

    @pytest.mark.parametrize(
        ("function", "name"), [("PVT_T", "pvt_tiny"), ("PVTv2_B0", "pvt_v2_b0")], ids=["PVT", "PVTv2"]
    )
    def test_the_epsilons_of_embeddings_and_reductions(self, function, name, tmp_path):
        """They are 1e-5, and those of the blocks 1e-6; transformers has 1e-6 everywhere."""
        model = getattr(keras_vit, function)(classifier_activation=None, embedding_epsilon=1e-6)
        assert self.error(model, name, "logits_small", tmp_path) > 1e-4

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("function", "name"), [("PVT_T", "pvt_tiny"), ("PVTv2_B0", "pvt_v2_b0")], ids=["PVT", "PVTv2"]
    )
    def test_the_epsilon_of_the_blocks(self, function, name, tmp_path):
        """The reference of version 2 cannot tell 1e-5 from 1e-6, but it can tell Keras' default."""
        model = getattr(keras_vit, function)(classifier_activation=None, epsilon=1e-3)
        assert self.error(model, name, "logits_small", tmp_path) > 1e-4

    def test_swapped_keys_and_values(self, tmp_path):
        arrays = timm_weights("pvt_v2_b0")
        name = "stages.1.blocks.0.attn.kv.weight"
        arrays[name] = np.roll(arrays[name], len(arrays[name]) // 2, axis=0)
        save_file(arrays, tmp_path / "swapped.safetensors")
        model = keras_vit.PVTv2_B0(classifier_activation=None, weights=tmp_path / "swapped.safetensors")
        assert relative_error(logits(model), fixture("pvt_v2_b0")["logits"]) > 1e-3

    @pytest.mark.slow
    def test_the_relu_before_the_convolution(self, tmp_path):
        model = keras_vit.PVTv2_B2_Li(classifier_activation=None)
        for _, layer in leaves(model):
            if layer.name == "relu":
                layer.activation = keras.activations.linear
        assert self.error(model, "pvt_v2_b2_li", "logits", tmp_path) > 1e-2


class TestAnotherImageSize:
    """The authors resize the positions of each stage bilinearly, with half-pixel centers."""

    name = "pvt_tiny_at_256x320"

    def arrays(self, scale):
        arrays = timm_weights(self.name, scale)
        assert arrays["pos_embed1"].shape == (1, 56 * 56, 64)
        return arrays

    def error(self, model, folder, outputs="logits"):
        save_file(self.arrays(SCALES[outputs]), folder / "tiny.safetensors")
        report = keras_vit.load_weights(model, folder / "tiny.safetensors")
        names = [f"stage_{stage}_embedding.position/table" for stage in range(3)]
        assert report.resized == [*names, "stage_3_position/table"] and not report.unused
        return relative_error(np.asarray(model(images((256, 320))[:1])), fixture(self.name)[outputs][:1])

    @pytest.mark.parametrize(
        ("outputs", "tolerance"),
        [
            ("logits", 1e-4),
            pytest.param("logits_small", 1e-4, marks=pytest.mark.slow),
            pytest.param("logits_large", 1e-3, marks=pytest.mark.slow),
        ],
    )
    def test_of_a_checkpoint(self, outputs, tolerance, tmp_path):
        """With large weights, the reference itself has an error of 2e-4 in float32."""
        model = keras_vit.PVT_T(input_shape=(256, 320, 3), classifier_activation=None)
        assert self.error(model, tmp_path, outputs) < tolerance

    def test_resized_in_another_way(self, tmp_path, monkeypatch):
        monkeypatch.setattr("keras_vit.models.pvt.pvt.POSITION_RESIZING", "linear")
        monkeypatch.setattr("keras_vit.models.pvt.pvt_embedding.POSITION_RESIZING", "linear")
        model = keras_vit.PVT_T(input_shape=(256, 320, 3), classifier_activation=None)
        assert self.error(model, tmp_path) > 1e-3

    def test_of_a_trained_model(self, tmp_path):
        """Resizing a model gives what loading its weights into a model of the other size gives."""
        model = tiny("PVT", input_shape=(32, 32, 3))  # A file's positions are taken for those of a square.
        resized = keras_vit.resize_model(model, (48, 56, 3))
        loaded = keras_vit.PVT(**{**TINY, "input_shape": (48, 56, 3)}, classes=5, classifier_activation=None)
        model.save_weights(tmp_path / "model.weights.h5")
        keras_vit.load_weights(loaded, tmp_path / "model.weights.h5")
        picture = np.random.default_rng(0).normal(size=(1, 48, 56, 3)).astype("float32")
        np.testing.assert_allclose(resized(picture), loaded(picture), atol=1e-5)

    def test_version_2_has_no_positions(self):
        model = tiny("PVTv2")
        resized = keras_vit.resize_model(model, (41, 37, 3))
        direct = keras_vit.PVTv2(**{**TINY, "input_shape": (41, 37, 3)}, classes=5, classifier_activation=None)
        direct.set_weights(model.get_weights())
        picture = np.random.default_rng(0).normal(size=(1, 41, 37, 3)).astype("float32")
        np.testing.assert_allclose(resized(picture), direct(picture), atol=1e-6)


HUGGING_FACE = {
    "pvt_tiny": [
        (r"^patch_embed(\d)\.proj", "pvt.encoder.patch_embeddings.{}.projection"),
        (r"^patch_embed(\d)\.norm", "pvt.encoder.patch_embeddings.{}.layer_norm"),
        (r"^pos_embed(\d)", "pvt.encoder.patch_embeddings.{}.position_embeddings"),
        (r"^cls_token", "pvt.encoder.patch_embeddings.3.cls_token"),
        (r"^block(\d)\.", "pvt.encoder.block.{}."),
        (r"attn\.proj", "attention.output.dense"),
        (r"attn\.sr", "attention.self.sequence_reduction"),
        (r"attn\.norm", "attention.self.layer_norm"),
        (r"attn\.q\.", "attention.self.query."),
        (r"attn\.kv", "attention.self.kv"),
        (r"(?<=\d\.)norm(\d)", "layer_norm_{+}"),
        (r"mlp\.fc(\d)", "mlp.dense{+}"),
        (r"^norm\.", "pvt.encoder.layer_norm."),
        (r"^head\.", "classifier."),
    ],
    "pvt_v2_b0": [
        (r"^patch_embed\.", "stages.0.downsample."),
        (r"^stages\.(\d)\.downsample\.proj", "pvt_v2.encoder.layers.{=}.patch_embedding.proj"),
        (r"^stages\.(\d)\.downsample\.norm", "pvt_v2.encoder.layers.{=}.patch_embedding.layer_norm"),
        (r"^stages\.(\d)\.norm", "pvt_v2.encoder.layers.{=}.layer_norm"),
        (r"^stages\.", "pvt_v2.encoder.layers."),
        (r"attn\.proj", "attention.proj"),
        (r"attn\.sr", "attention.spatial_reduction"),
        (r"attn\.norm", "attention.layer_norm"),
        (r"attn\.q\.", "attention.query."),
        (r"attn\.kv", "attention.kv"),
        (r"(?<=\d\.)norm(\d)", "layer_norm_{+}"),
        (r"mlp\.fc(\d)", "mlp.dense{+}"),
        (r"mlp\.dwconv", "mlp.dwconv.dwconv"),
        (r"^head\.", "classifier."),
    ],
}
AUTHORS = [
    (r"^patch_embed\.", "patch_embed1."),
    (r"^stages\.(\d)\.downsample", "patch_embed{1+}"),
    (r"^stages\.(\d)\.blocks\.", "block{1+}."),
    (r"^stages\.(\d)\.norm", "norm{1+}"),
    (r"mlp\.dwconv", "mlp.dwconv.dwconv"),
]


def renamed(arrays, names):
    """Return arrays under other names. {} is the number found less 1, {1+} one more, {=} and {+} the number itself."""

    def fill(template):
        def replace(found):
            text, number = template, int(found[1]) if found.groups() else 0
            for mark, value in (("{}", number - 1), ("{1+}", number + 1), ("{=}", number), ("{+}", number)):
                text = text.replace(mark, str(value))
            return text

        return replace

    result = {}
    for name, array in arrays.items():
        for pattern, template in names:
            name = re.sub(pattern, fill(template), name)
        if ".attention." in name and ".kv." in name:
            for kind, part in zip(("key", "value"), np.split(array, 2), strict=True):
                result[name.replace(".kv.", f".{kind}.")] = part
        else:
            result[name] = array
    return result


@pytest.mark.parametrize(
    ("function", "name", "project", "names"),
    [
        ("PVT_T", "pvt_tiny", "Hugging Face", HUGGING_FACE["pvt_tiny"]),
        ("PVTv2_B0", "pvt_v2_b0", "Hugging Face", HUGGING_FACE["pvt_v2_b0"]),
        ("PVTv2_B0", "pvt_v2_b0", "whai362/PVT", AUTHORS),
    ],
)
def test_other_names(function, name, project, names, tmp_path):
    save_file(renamed(timm_weights(name), names), tmp_path / "model.safetensors")
    model = getattr(keras_vit, function)(classifier_activation=None)
    report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
    assert report.project == project and not report.unused
    assert relative_error(np.asarray(model(images(224)[:1])), fixture(name)["logits"][:1]) < 1e-4


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 13, 16)), ("token", (None, 16)), ("avg", (None, 16))])
def test_without_the_top(pooling, shape):
    model, tokens = (tiny("PVT", include_top=False, pooling=each) for each in (pooling, None))
    assert model.output_shape == shape
    expected = np.asarray(tokens(PICTURES))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(PICTURES), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_version_2_without_the_top(pooling):
    model, maps = (tiny("PVTv2", include_top=False, pooling=each) for each in (pooling, None))
    assert maps.output_shape == (None, 4, 3, 16)
    np.testing.assert_allclose(
        model(PICTURES), getattr(np.asarray(maps(PICTURES)), {"avg": "mean"}.get(pooling, "max"))((1, 2)), atol=1e-5
    )


@both
def test_features_and_attention(version):
    model = tiny(version)
    features = keras_vit.feature_extractor(model, "pyramid")(PICTURES)
    assert {name: map.shape for name, map in features.items()} == {
        "stride_4": (2, 8, 6, 12),
        "stride_8": (2, 4, 3, 16),
    }
    maps = keras_vit.attention_maps(model, PICTURES)
    last = 13 if version == "PVT" else 12
    assert {name: map.shape for name, map in maps.items()} == {
        "stage_0_block_0": (2, 2, 48, 12),
        "stage_0_block_1": (2, 2, 48, 12),
        "stage_1_block_0": (2, 4, last, last),
    }
    assert all(np.allclose(map.sum(-1), 1, atol=1e-5) for map in maps.values())


@both
def test_learning_rates_by_depth(version):
    from keras_vit.training.optimizers.factory import layer_depths

    model = tiny(version)
    depths = {v.path: depth for v, depth in zip(model.trainable_variables, layer_depths(model), strict=True)}
    assert depths["stage_0_embedding/projection/kernel"] == 0 and depths["head/kernel"] == 4
    assert [depths[f"stage_{i}_block_{j}/mlp/expand/kernel"] for i, j in ((0, 0), (0, 1), (1, 0))] == [1, 2, 3]


@both
def test_stochastic_depth_rises_linearly(version):
    model = tiny(version, drop_path_rate=0.2)
    blocks = [model.get_layer(f"stage_{i}_block_{j}") for i, j in ((0, 0), (0, 1), (1, 0))]
    assert [block.drop_path1.rate for block in blocks] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reference"), [("pvtv2_b0", "pvt_v2_b0"), ("pvt_t", "pvt_tiny")])
def test_the_files_of_a_published_size(name, reference, tmp_path):
    check_files(name, reference, tmp_path)


def test_norms_of_every_kind():
    epsilons = [layer.epsilon for _, layer in leaves(keras_vit.PVTv2_B0()) if isinstance(layer, LayerNorm)]
    # Four embeddings and six reductions; two norms in each of eight blocks, and one after each stage.
    assert (epsilons.count(1e-5), epsilons.count(1e-6)) == (4 + 6, 2 * 8 + 4)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_32(self):
        with pytest.raises(ValueError, match=r"multiples of 32; received 225 x 260, and 224 x 256 would do"):
            keras_vit.PVT_T(input_shape=(225, 260, 3))

    @both
    def test_stages_without_heads(self, version):
        with pytest.raises(ValueError, match=r"a number for each stage; received .*num_heads=\(2,\)"):
            tiny(version, num_heads=(2,))

    @both
    def test_heads_that_do_not_divide_the_channels(self, version):
        with pytest.raises(ValueError, match="num_heads must divide width; received num_heads=5 and width=12"):
            tiny(version, num_heads=(5, 4))

    @both
    def test_a_map_that_is_smaller_than_its_reduction(self, version):
        with pytest.raises(ValueError, match="A map of 8 x 6 pixels cannot be reduced 7 times"):
            tiny(version, reductions=(7, 1))

    def test_a_reduction_beside_the_class_token(self):
        with pytest.raises(ValueError, match=r"must end with 1; received reductions=\(2, 2\)"):
            tiny("PVT", reductions=(2, 2))

    def test_averages_of_nothing(self):
        with pytest.raises(ValueError, match="pooled_side must be a positive integer or None; received 0"):
            tiny("PVTv2", pooled_side=0)

    @pytest.mark.parametrize(("version", "known"), [("PVT", "'token', 'avg'"), ("PVTv2", "'avg', 'max'")])
    def test_pooling(self, version, known):
        with pytest.raises(ValueError, match=f"pooling must be {known} or None; received 'map'"):
            tiny(version, include_top=False, pooling="map")

    def test_weights_of_the_other_version(self, tmp_path):
        save_file(timm_weights("pvt_v2_b0"), tmp_path / "v2.safetensors")
        with pytest.raises(ValueError, match="holds weights of another model"):
            keras_vit.PVT_T(weights=tmp_path / "v2.safetensors")


@pytest.mark.parametrize("precision, least_db", [("float32", 90), ("hybrid_int8", 28)])
@pytest.mark.parametrize("side", [32, 48])
def test_a_file_of_attention_to_averages_gives_the_same(tmp_path, side, precision, least_db):
    """The windows divide the maps of 12 and 8 pixels a side, and not those of 6; those of 4 stay as they are."""
    model = tiny("PVTv2", input_shape=(side, side, 3), pooled_side=4)
    images = images_of(model)
    calibration = {"calibration_data": images} if precision == "hybrid_int8" else {}
    file = edge.export(model, tmp_path / "model.tflite", precision, **calibration)
    assert edge.audit(file).partitions == 1
    assert edge.verify(model, file, images).snr_db > least_db
