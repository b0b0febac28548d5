"""DINOv2 and DINO: outputs at several image sizes, costs, names in published files, and features."""

import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.registry import find_weights
from tests.models.test_reference import logits
from tests.models.vit.forms import form
from tests.reference import SCALES, fixture, relative_error, timm_file

_PUBLISHED = dict(include_top=False, pooling="token")
_DINO = find_weights("vit_s16", "dino").settings
# The file's table of positions is for images of 518 x 518, and for DINO 224 x 224.
SIZES = [
    pytest.param("dinov2_s14", "vit_small_patch14_dinov2", {}, marks=pytest.mark.slow),
    pytest.param("dinov2_s14", "vit_small_patch14_dinov2_at_224", {}, marks=pytest.mark.slow),
    ("dinov2_s14", "vit_small_patch14_dinov2_at_224x280", {}),
    pytest.param("dinov2_s14_reg", "vit_small_patch14_reg4_dinov2", {}, marks=pytest.mark.slow),
    ("dinov2_s14_reg", "vit_small_patch14_reg4_dinov2_at_224", {}),
    ("vit_s16", "dino_vit_small_patch16_at_192x256", _DINO),
]
# Parameters and multiply-accumulates without a classifier, at 518 x 518, as timm counts them.
COSTS = {
    "dinov2_s14": (22_056_192, 46_696_739_328),
    "dinov2_b14": (86_579_712, 151_573_718_016),
    "dinov2_l14": (304_367_616, 506_803_826_688),
    "dinov2_g14": (1_136_479_232, 1_783_342_958_592),
    "dinov2_s14_reg": (22_057_344, 46_882_828_800),
    "dinov2_b14_reg": (86_582_016, 152_115_766_272),
    "dinov2_l14_reg": (304_370_688, 508_551_278_592),
    "dinov2_g14_reg": (1_136_483_840, 1_789_221_537_792),
}


@pytest.mark.parametrize(("name", "reference", "settings"), SIZES)
def test_outputs_equal_the_authors_at_every_size(name, reference, settings, tmp_path):
    expected = fixture(reference)
    size = tuple(map(int, np.broadcast_to(expected["image_size"], 2)))
    model = keras_vit.create_model(name, input_shape=(*size, 3), **_PUBLISHED, **settings)
    for outputs, scale in SCALES.items():
        report = keras_vit.load_weights(model, timm_file(reference, tmp_path, scale))
        resized = size != (518, 518)
        assert report.resized == ["position_embedding/table"] * resized and not report.left_as_it_was
        # With the large weights, attention is nearly one-hot, and float32 itself is off by 5e-5.
        tolerance = 2e-4 if outputs == "logits_large" else 1e-4
        assert relative_error(logits(model, size), expected[outputs]) < tolerance, outputs


@pytest.mark.parametrize("name", COSTS)
def test_parameters_and_macs(name):
    info = keras_vit.model_info(name, **_PUBLISHED)
    assert info["image_size"] == (518, 518)
    assert (info["parameters"], info["macs"]) == COSTS[name]


def test_a_classifier_takes_the_class_token():
    assert keras_vit.model_info("dinov2_s14")["parameters"] == 22_441_192
    assert keras_vit.list_models("dinov2_*") == sorted(COSTS)


def test_published_weights_have_no_classifier():
    for name in COSTS:
        (record,) = keras_vit.list_weights(name)
        assert record.tag == "lvd142m" and record.classes is None and record.commercial
    with pytest.raises(ValueError, match="no classifier: pass classes for a new one, or include_top=False"):
        keras_vit.DINOv2_S14(weights="lvd142m")


def test_features_are_the_class_token_and_the_mean_of_the_patches():
    settings = dict(include_top=False, input_shape=(16, 16, 3), patch_size=4, width=24, depth=1, num_heads=3)
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    tokens = keras_vit.DINOv2(num_registers=2, **settings)
    outputs = np.asarray(tokens(image))
    assert outputs.shape == (2, 1 + 2 + 16, 24)
    expected = {"token": outputs[:, 0], "avg": outputs[:, 3:].mean(axis=1)}
    expected["token_and_avg"] = np.concatenate([expected["token"], expected["avg"]], axis=1)
    for pooling, features in expected.items():
        model = keras_vit.DINOv2(num_registers=2, pooling=pooling, **settings)
        model.set_weights(tokens.get_weights())
        np.testing.assert_allclose(model(image), features, atol=1e-6)


class TestNames:
    """The names of the authors' files and of transformers load the same model as timm's."""

    def timm(self, model):
        """Return random arrays with timm's names for the form with SwiGLU and registers."""
        width, mlp_dim, random = 24, 32, np.random.default_rng(2)
        shapes = {"cls_token": (1, 1, width), "reg_token": (1, 2, width), "pos_embed": (1, 16, width)}
        layers = {"patch_embed.proj": (width, 3, 4, 4), "norm": (width,), "head": (5, 2 * width)}
        for i in range(2):
            block = {"norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width), "norm2": (width,)}
            block |= {"mlp.fc1": (2 * mlp_dim, width), "mlp.fc2": (width, mlp_dim)}
            layers |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
            shapes |= {f"blocks.{i}.{name}.gamma": (width,) for name in ("ls1", "ls2")}
        for name, shape in layers.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return {name: 0.3 * random.normal(size=shape).astype("float32") for name, shape in shapes.items()}

    def outputs(self, arrays, tmp_path, project):
        save_file(arrays, tmp_path / "model.safetensors")
        model = form("DINOv2 with registers")
        report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
        assert report.project == project and not report.left_as_it_was
        return np.asarray(model(np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")))

    def test_the_authors(self, tmp_path):
        arrays = self.timm(form("DINOv2 with registers"))
        expected = self.outputs(arrays, tmp_path, "timm")
        theirs = {
            name.replace("reg_token", "register_tokens").replace("fc1", "w12").replace("fc2", "w3"): array
            for name, array in arrays.items()
        }
        # The class token has a position in their files, although it is a term of the token itself.
        position = np.full((1, 1, 24), 0.125, "float32")
        theirs["cls_token"] = theirs["cls_token"] - position
        theirs["pos_embed"] = np.concatenate([position, theirs["pos_embed"]], axis=1)
        theirs["mask_token"] = np.ones((1, 24), "float32")
        np.testing.assert_allclose(self.outputs(theirs, tmp_path, "timm"), expected, atol=1e-6)

    def test_transformers(self, tmp_path):
        arrays = self.timm(form("DINOv2 with registers"))
        expected = self.outputs(arrays, tmp_path, "timm")
        names = (
            (r"^(cls_token)$", r"embeddings.\1"),
            ("^reg_token$", "embeddings.register_tokens"),
            ("^pos_embed$", "embeddings.position_embeddings"),
            (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
            (r"^norm\.", "layernorm."),
            (r"^blocks\.", "encoder.layer."),
            (r"attn\.proj", "attention.output.dense"),
            (r"mlp\.fc1", "mlp.weights_in"),
            (r"mlp\.fc2", "mlp.weights_out"),
            (r"ls(\d)\.gamma", r"layer_scale\1.lambda1"),
        )
        theirs = {"dinov2_with_registers.embeddings.mask_token": np.ones((1, 24), "float32")}
        for name, array in arrays.items():
            for pattern, spelling in names:
                name = re.sub(pattern, spelling, name)
            if ".attn.qkv." in name:
                for part, values in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                    own = name.replace("attn.qkv", f"attention.attention.{part}")
                    theirs[f"dinov2_with_registers.{own}"] = values
            elif name.startswith("head."):
                theirs[name.replace("head", "classifier")] = array
            else:
                theirs[f"dinov2_with_registers.{name}"] = array
        position = np.zeros((1, 1, 24), "float32")
        table = "dinov2_with_registers.embeddings.position_embeddings"
        theirs[table] = np.concatenate([position, theirs[table]], axis=1)
        np.testing.assert_allclose(self.outputs(theirs, tmp_path, "Hugging Face"), expected, atol=1e-6)


def test_swiglu_gates_the_values():
    from keras_vit.models.vit.swiglu import SwiGLU

    layer = SwiGLU(6, 5)
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    layer(x)
    parts = {}
    for name in ("gate", "value", "contract"):
        dense = getattr(layer, name)
        dense.bias.assign(np.random.default_rng(1).normal(size=dense.bias.shape))
        parts[name] = [keras.ops.convert_to_numpy(weight) for weight in dense.weights]
    gate, value = (x @ parts[name][0] + parts[name][1] for name in ("gate", "value"))
    expected = (gate / (1 + np.exp(-gate)) * value) @ parts["contract"][0] + parts["contract"][1]
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
