"""A ViT with its arrays under every name that published files use."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit

SETTINGS = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3, classes=5)
BLOCK = "Transformer/encoderblock_{}/"


def first_release():
    """Return the arrays of a ViT with a class token, named as in Google's first release."""
    random = np.random.default_rng(0)
    shapes = {
        "cls": (1, 1, 24),
        "embedding/kernel": (4, 4, 3, 24),
        "embedding/bias": (24,),
        "Transformer/posembed_input/pos_embedding": (1, 17, 24),
        "Transformer/encoder_norm/scale": (24,),
        "Transformer/encoder_norm/bias": (24,),
        "head/kernel": (24, 5),
        "head/bias": (5,),
    }
    for i in range(2):
        shapes |= block(BLOCK.format(i), "LayerNorm_2", "MultiHeadDotProductAttention_1", "MlpBlock_3")
        shapes |= {BLOCK.format(i) + f"LayerNorm_0/{name}": (24,) for name in ("scale", "bias")}
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def block(prefix, norm, attention, mlp):
    shapes = {f"{norm}/scale": (24,), f"{norm}/bias": (24,)}
    for name in ("query", "key", "value"):
        shapes |= {f"{attention}/{name}/kernel": (24, 3, 8), f"{attention}/{name}/bias": (3, 8)}
    shapes |= {f"{attention}/out/kernel": (3, 8, 24), f"{attention}/out/bias": (24,)}
    shapes |= {f"{mlp}/Dense_0/kernel": (24, 96), f"{mlp}/Dense_0/bias": (96,)}
    shapes |= {f"{mlp}/Dense_1/kernel": (96, 24), f"{mlp}/Dense_1/bias": (24,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def renamed(arrays, *changes):
    result = {}
    for name, array in arrays.items():
        for old, new in changes:
            name = name.replace(old, new)
        result[name] = array
    return result


def big_vision(arrays):
    return renamed(
        arrays,
        ("LayerNorm_2", "LayerNorm_1"),
        ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
        ("MlpBlock_3", "MlpBlock_0"),
        ("Transformer/posembed_input/pos_embedding", "pos_embedding"),
    )


def inside(prefix, arrays, **others):
    return {prefix + name: array for name, array in arrays.items()} | others


def scanned(arrays):
    first = BLOCK.format(0)
    stacked = {
        "Transformer/encoderblock/" + name.removeprefix(first): np.stack(
            [arrays[BLOCK.format(i) + name.removeprefix(first)] for i in range(2)]
        )
        for name in arrays
        if name.startswith(first)
    }
    return {name: array for name, array in arrays.items() if "encoderblock" not in name} | stacked


STEP = np.zeros((), "int32")
SPELLINGS = {
    "numbered by kind": lambda arrays: big_vision(arrays),
    "positions in the encoder": lambda arrays: renamed(arrays, ("posembed_input/", "")),
    "trained": lambda arrays: inside("params/", big_vision(arrays), **{"opt/0/count": STEP}),
    "with its optimizer": lambda arrays: inside("opt/target/", arrays, **{"opt/state/step": STEP}),
    "of image and text": lambda arrays: inside("params/img/", big_vision(arrays), **{"params/txt/head/bias": STEP}),
    "scanned": lambda arrays: scanned(big_vision(arrays)),
    "scanned, of image and text": lambda arrays: inside(
        "params/img/", scanned(big_vision(arrays)), **{"params/t": STEP}
    ),
    "scanned, numbered together": lambda arrays: scanned(arrays),
}


def loaded(path, **settings):
    model = keras_vit.ViT(**{**SETTINGS, **settings})
    return model, keras_vit.load_weights(model, path)


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_google(spelling, tmp_path):
    np.savez(tmp_path / "first.npz", **first_release())
    np.savez(tmp_path / "other.npz", **SPELLINGS[spelling](first_release()))
    (first, _), (other, report) = loaded(tmp_path / "first.npz"), loaded(tmp_path / "other.npz")
    assert report.project == "Google" and len(report.loaded) == len(other.weights)
    assert equal(first, other)


def test_a_block_that_a_scanned_file_lacks(tmp_path):
    np.savez(tmp_path / "other.npz", **scanned(first_release()))
    with pytest.raises(ValueError, match=r"encoderblock_2/.* is missing from the file"):
        loaded(tmp_path / "other.npz", depth=3)


def test_bfloat16(tmp_path):
    arrays = {name: array.astype(ml_dtypes.bfloat16) for name, array in first_release().items()}
    np.savez(tmp_path / "half.npz", **arrays)
    save_file(arrays, tmp_path / "half.safetensors")
    model, _ = loaded(tmp_path / "half.npz")
    np.testing.assert_array_equal(model.get_layer("head").kernel, arrays["head/kernel"].astype("float32"))
    same, _ = loaded(tmp_path / "half.safetensors")
    assert equal(model, same)


def with_map_head(prefix):
    """Return a model without a class token and with attention pooling."""
    random = np.random.default_rng(1)
    arrays = big_vision(first_release())
    del arrays["cls"]
    arrays["pos_embedding"] = arrays["pos_embedding"][:, 1:]
    shapes = block(prefix, "LayerNorm_0", "MultiHeadDotProductAttention_0", "MlpBlock_0")
    shapes[f"{prefix}probe"] = (1, 1, 24)
    return arrays | {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def test_attention_pooling_in_three_spellings(tmp_path):
    arrays = with_map_head("MAPHead_0/")
    attention, mlp = "MAPHead_0/MultiHeadDotProductAttention_0", "MAPHead_0/MlpBlock_0"
    merged = {kind: [arrays[f"{attention}/{part}/{kind}"] for part in ("key", "value")] for kind in ("kernel", "bias")}
    timm = {
        "attn_pool.latent": arrays["MAPHead_0/probe"],
        "attn_pool.q.weight": arrays[f"{attention}/query/kernel"].reshape(24, 24).T,
        "attn_pool.q.bias": arrays[f"{attention}/query/bias"].reshape(24),
        "attn_pool.kv.weight": np.concatenate([kernel.reshape(24, 24).T for kernel in merged["kernel"]]),
        "attn_pool.kv.bias": np.concatenate([bias.reshape(24) for bias in merged["bias"]]),
        "attn_pool.proj.weight": arrays[f"{attention}/out/kernel"].reshape(24, 24).T,
        "attn_pool.proj.bias": arrays[f"{attention}/out/bias"],
        "attn_pool.norm.weight": arrays["MAPHead_0/LayerNorm_0/scale"],
        "attn_pool.norm.bias": arrays["MAPHead_0/LayerNorm_0/bias"],
        "attn_pool.mlp.fc1.weight": arrays[f"{mlp}/Dense_0/kernel"].T,
        "attn_pool.mlp.fc1.bias": arrays[f"{mlp}/Dense_0/bias"],
        "attn_pool.mlp.fc2.weight": arrays[f"{mlp}/Dense_1/kernel"].T,
        "attn_pool.mlp.fc2.bias": arrays[f"{mlp}/Dense_1/bias"],
        "norm.weight": arrays["Transformer/encoder_norm/scale"],
        "norm.bias": arrays["Transformer/encoder_norm/bias"],
        "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        "pos_embed": arrays["pos_embedding"],
    }
    np.savez(tmp_path / "named.npz", **arrays)
    np.savez(tmp_path / "inlined.npz", **renamed(arrays, ("MAPHead_0/", "")))
    save_file({name: np.ascontiguousarray(array) for name, array in timm.items()}, tmp_path / "timm.safetensors")
    settings = dict(class_token=False, pooling="map")
    (named, report), (inlined, _) = (loaded(tmp_path / f"{name}.npz", **settings) for name in ("named", "inlined"))
    assert not report.unused and equal(named, inlined)

    settings |= dict(depth=0, include_top=False)
    pool, report = loaded(tmp_path / "timm.safetensors", **settings)
    assert report.project == "timm" and not report.unused
    for ours, theirs in zip(pool.get_layer("pooling").weights, named.get_layer("pooling").weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def hugging_face(prefix, head="classifier"):
    random = np.random.default_rng(0)
    shapes = {
        f"{prefix}embeddings.cls_token": (1, 1, 24),
        f"{prefix}embeddings.position_embeddings": (1, 17, 24),
        f"{prefix}embeddings.patch_embeddings.projection.weight": (24, 3, 4, 4),
        f"{prefix}embeddings.patch_embeddings.projection.bias": (24,),
        f"{prefix}layernorm.weight": (24,),
        f"{prefix}layernorm.bias": (24,),
        f"{head}.weight": (5, 24),
        f"{head}.bias": (5,),
    }
    for i in range(2):
        for name, shape in {
            "layernorm_before": (24,), "layernorm_after": (24,), "attention.attention.query": (24, 24),
            "attention.attention.key": (24, 24), "attention.attention.value": (24, 24),
            "attention.output.dense": (24, 24), "intermediate.dense": (96, 24), "output.dense": (24, 96),
        }.items():  # fmt: skip
            shapes[f"{prefix}encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"{prefix}encoder.layer.{i}.{name}.bias"] = shape[:1]
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def test_hugging_face_with_and_without_prefix(tmp_path):
    save_file(hugging_face("vit."), tmp_path / "vit.safetensors")
    save_file(hugging_face("") | {"pooler.dense.bias": np.zeros(24, "float32")}, tmp_path / "bare.safetensors")
    (first, _), (bare, report) = loaded(tmp_path / "vit.safetensors"), loaded(tmp_path / "bare.safetensors")
    assert report.project == "Hugging Face" and report.unused == ["pooler.dense.bias"]
    assert equal(first, bare)


def test_hugging_face_deit_with_two_heads(tmp_path):
    arrays = hugging_face("deit.", "cls_classifier")
    random = np.random.default_rng(2)
    arrays["deit.embeddings.distillation_token"] = random.normal(size=(1, 1, 24)).astype("float32")
    arrays["deit.embeddings.position_embeddings"] = random.normal(size=(1, 18, 24)).astype("float32")
    arrays["distillation_classifier.weight"] = random.normal(size=(5, 24)).astype("float32")
    arrays["distillation_classifier.bias"] = random.normal(size=(5,)).astype("float32")
    save_file(arrays, tmp_path / "deit.safetensors")
    model = keras_vit.DeiT(distilled=True, **SETTINGS)
    report = keras_vit.load_weights(model, tmp_path / "deit.safetensors")
    assert len(report.loaded) == len(model.weights) and not report.unused
    np.testing.assert_array_equal(model.get_layer("head").kernel, arrays["cls_classifier.weight"].T)
    np.testing.assert_array_equal(model.get_layer("head_dist").kernel, arrays["distillation_classifier.weight"].T)
    np.testing.assert_array_equal(
        model.get_layer("distillation_token").token, arrays["deit.embeddings.distillation_token"]
    )


def test_registers_and_the_norm_after_the_pooling(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        "reg_token": (1, 2, 24), "cls_token": (1, 1, 24), "pos_embed": (1, 16, 24), "patch_embed.proj.bias": (24,),
        "patch_embed.proj.weight": (24, 3, 4, 4), "fc_norm.weight": (24,), "fc_norm.bias": (24,),
        "head.weight": (5, 24), "head.bias": (5,),
    }  # fmt: skip
    arrays = {name: random.normal(size=shape).astype("float32") for name, shape in arrays.items()}
    save_file(arrays, tmp_path / "timm.safetensors")
    settings = dict(depth=0, num_registers=2, position_on_class_token=False, pooling="avg", norm_after_pooling=True)
    model, report = loaded(tmp_path / "timm.safetensors", **settings)
    assert len(report.loaded) == len(arrays) and not report.unused
    np.testing.assert_array_equal(model.get_layer("register_tokens").tokens, arrays["reg_token"])
    np.testing.assert_array_equal(model.get_layer("fc_norm").gamma, arrays["fc_norm.weight"])
