"""Every model against its reference implementation: weights through the loader, outputs through the model."""

import numpy as np
import pytest

import keras_vit
from tests.reference import fixture, google_weights, images, relative_error, timm_file, timm_weights

TOLERANCE = 1e-4
MODELS = [
    ("vit_ti16", "vit_tiny_patch16_224", {}),
    ("vit_s16", "vit_small_patch16_224", {}),
    ("vit_s32", "vit_small_patch32_224", {}),
    ("vit_b32", "vit_base_patch32_224", {}),
    ("vit_b16", "vit_base_patch16_224", {}),
    ("vit_b8", "vit_base_patch8_224", {}),
    ("vit_b16", "vit_base_patch16_384", {}),
    # timm gives this one 16 heads.
    ("vit_b16", "vit_base_patch16_gap_224", {"class_token": False, "pooling": "avg", "num_heads": 16}),
    (
        "vit_b16",
        "vit_base_patch16_siglip_224",
        {"class_token": False, "pooling": "map", "include_top": False},
    ),
    ("deit_ti16", "deit_tiny_patch16_224", {}),
    ("deit_ti16_distilled", "deit_tiny_distilled_patch16_224", {}),
    ("deit_s16", "deit_small_patch16_224", {}),
    ("deit3_s16", "deit3_small_patch16_224", {}),
    ("mobile_former_26m", "mobile_former_26m", {}),
    ("mobile_former_294m", "mobile_former_294m", {}),
    ("efficientvit_b0", "efficientvit_b0", {}),
    ("efficientvit_b1", "efficientvit_b1", {}),
    ("efficientvit_l1", "efficientvit_l1", {}),
    ("mobilevit_xxs", "mobilevit_xxs", {}),
    ("mobilevit_xs", "mobilevit_xs", {}),
    ("mobilevit_s", "mobilevit_s", {}),
    ("mobilevitv2_050", "mobilevitv2_050", {}),
    ("mobilevitv2_100", "mobilevitv2_100", {}),
]
SLOW_MODELS = [
    ("vit_l16", "vit_large_patch16_224", {}),
    ("vit_h14", "vit_huge_patch14_224", {"include_top": False, "pooling": "token"}),
    ("deit_b16_distilled", "deit_base_distilled_patch16_384", {}),
    ("deit3_b16", "deit3_base_patch16_384", {}),
    ("deit3_l16", "deit3_large_patch16_224", {}),
    *((name, name, {}) for name in (f"mobile_former_{size}m" for size in (52, 96, 151, 214, 508))),
    *((name, name, {}) for name in (f"efficientvit_{size}" for size in ("b2", "b3", "l2", "l3"))),
    ("mobilevitv2_200", "mobilevitv2_200", {}),
]
MODELS += [pytest.param(*model, marks=pytest.mark.slow) for model in SLOW_MODELS]


def logits(model, size=224):
    return np.concatenate([np.asarray(model(image[None], training=False)) for image in images(size)])


@pytest.mark.parametrize(("name", "reference", "settings"), MODELS)
def test_outputs_equal_the_reference(name, reference, settings, tmp_path):
    expected = fixture(reference)
    size = int(expected["image_size"])
    model = keras_vit.create_model(name, classifier_activation=None, input_shape=(size, size, 3), **settings)
    report = keras_vit.load_weights(model, timm_file(reference, tmp_path))
    assert report.project in ("timm", "Mobile-Former's authors")
    assert not report.unused and not report.resized and not report.adapted
    assert sum(np.prod(v.shape) for v in model.trainable_weights) == int(expected["params"])
    assert relative_error(logits(model, size), expected["logits"]) < TOLERANCE


def test_google_release_equals_the_reference(tmp_path):
    path = tmp_path / "ti16.npz"
    np.savez(path, **google_weights("google_npz_vit_ti16"))
    model = keras_vit.ViT_Ti16(classifier_activation=None)
    assert keras_vit.load_weights(model, path).project == "Google"
    assert relative_error(logits(model), fixture("google_npz_vit_ti16")["logits"]) < TOLERANCE


class TestTheComparisonCanFail:
    """Each mistake that a parameter count cannot see is caught by the same comparison."""

    reference = "vit_tiny_patch16_224"

    def error(self, tmp_path, weights=None, **settings):
        from safetensors.numpy import save_file

        path = tmp_path / "weights.safetensors"
        save_file(timm_weights(self.reference) if weights is None else weights, path)
        model = keras_vit.ViT_Ti16(classifier_activation=None, **settings)
        keras_vit.load_weights(model, path)
        return relative_error(logits(model), fixture(self.reference)["logits"])

    def test_without_a_mistake(self, tmp_path):
        assert self.error(tmp_path) < TOLERANCE

    def test_another_epsilon(self, tmp_path):
        assert self.error(tmp_path, epsilon=1e-3) > TOLERANCE

    def test_the_other_gelu(self, tmp_path):
        assert self.error(tmp_path, activation="gelu_tanh") > TOLERANCE

    def test_one_swapped_head(self, tmp_path):
        weights = timm_weights(self.reference)
        for suffix in ("weight", "bias"):
            rows = weights[f"blocks.5.attn.qkv.{suffix}"].copy()
            rows[:64], rows[64:128] = rows[64:128].copy(), rows[:64].copy()
            weights[f"blocks.5.attn.qkv.{suffix}"] = rows
        assert self.error(tmp_path, weights) > TOLERANCE


def test_hugging_face_names_load_the_same_model(tmp_path):
    from safetensors.numpy import save_file

    timm = timm_weights("vit_tiny_patch16_224")
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "head": "classifier",
    }
    for i in range(12):
        block, layer = f"blocks.{i}", f"vit.encoder.layer.{i}"
        names |= {
            f"{block}.norm1": f"{layer}.layernorm_before",
            f"{block}.norm2": f"{layer}.layernorm_after",
            f"{block}.attn.proj": f"{layer}.attention.output.dense",
            f"{block}.mlp.fc1": f"{layer}.intermediate.dense",
            f"{block}.mlp.fc2": f"{layer}.output.dense",
        }
    converted = {}
    for name, array in timm.items():
        stem, _, kind = name.rpartition(".")
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                block = name.split(".")[1]
                converted[f"vit.encoder.layer.{block}.attention.attention.{part}.{kind}"] = rows
        else:
            converted[names[name] if name in names else f"{names[stem]}.{kind}"] = array
    path = tmp_path / "model.safetensors"
    save_file(converted, path)
    model = keras_vit.ViT_Ti16(classifier_activation=None)
    assert keras_vit.load_weights(model, path).project == "Hugging Face"
    assert relative_error(logits(model), fixture("vit_tiny_patch16_224")["logits"]) < TOLERANCE
