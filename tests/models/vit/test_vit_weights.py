"""ViT's published weights: names of other projects, and mistakes that the comparison with the reference detects."""

import numpy as np

import keras_vit
from tests.models.test_reference import logits
from tests.reference import fixture, google_weights, relative_error, timm_weights

TOLERANCE = 1e-4


def test_google_release_equals_the_reference(tmp_path):
    path = tmp_path / "ti16.npz"
    np.savez(path, **google_weights("google_npz_vit_ti16"))
    model = keras_vit.ViT_Ti16(classifier_activation=None)
    assert keras_vit.load_weights(model, path).project == "Google"
    assert relative_error(logits(model), fixture("google_npz_vit_ti16")["logits"]) < TOLERANCE


class TestTheComparisonCanFail:
    """The comparison detects each mistake that does not change the number of parameters."""

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
