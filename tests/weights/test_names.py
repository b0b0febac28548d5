"""Names with a beginning, the names of transformers 5, shards and folders, and arrays beside the weights."""

import json
import pickle

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from tests.weights.files import arrays, assigned, equal, model, refuses, write, write_shards

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
OTHERS = np.random.default_rng(3)


def inside(beginning, content):
    return {beginning + name: array for name, array in content.items()}


def noise(*shape):
    return OTHERS.normal(size=shape).astype("float32")


@pytest.fixture(scope="module")
def expected():
    return assigned(arrays(), model()).get_weights()


def is_loaded(path, expected, **settings):
    target = model()
    report = keras_vit.load_weights(target, path, **settings)
    assert all(np.array_equal(a, b) for a, b in zip(target.get_weights(), expected, strict=True))
    return report


def test_names_without_a_beginning(expected, tmp_path):
    report = is_loaded(write(tmp_path, arrays()), expected)
    assert report.beginning == "" and str(report) == f"timm names: {len(expected)} arrays loaded"


@pytest.mark.parametrize(
    "beginning",
    [
        "module.", "model.", "_orig_mod.", "backbone.", "encoder.", "student.backbone.", "base_model.model.",
        "module._orig_mod.", "model.backbone.", "module.encoder.", "state_dict.module.", "net.vit.", "model/",
    ],
)  # fmt: skip
def test_a_beginning_is_taken_off_and_reported(beginning, expected, tmp_path):
    report = is_loaded(write(tmp_path, inside(beginning, arrays())), expected)
    assert report.beginning == beginning and not report.unused
    assert str(report).startswith(f"timm names without {beginning!r}: ")


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"])
def test_blocks_that_were_compiled_or_wrapped_one_by_one(wrapper, expected, tmp_path):
    content = {}
    for name, array in arrays().items():
        parts = name.split(".")
        content[".".join([*parts[:2], wrapper, *parts[2:]] if parts[0] == "blocks" else parts)] = array
    assert is_loaded(write(tmp_path, inside("module.", content)), expected).beginning == "module."


def test_a_beginning_in_the_files_of_keras_and_of_hugging_face(tmp_path):
    source, target = model(), model()
    save_file({f"module.{weight.path}": weight.numpy() for weight in source.weights}, tmp_path / "a.safetensors")
    assert keras_vit.load_weights(target, tmp_path / "a.safetensors").beginning == "module."
    assert equal(source, target)


# What `ViTForImageClassification(config).state_dict()` has in transformers 5, and what it had before.
NEW = {"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj", "out": "attention.o_proj",
       "fc1": "mlp.fc1", "fc2": "mlp.fc2", "block": "layers"}  # fmt: skip
OLD = {"query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value",
       "out": "attention.output.dense", "fc1": "intermediate.dense", "fc2": "output.dense",
       "block": "encoder.layer"}  # fmt: skip


def hugging_face(names, prefix="vit.", head="classifier"):
    content = arrays()
    result = {
        f"{prefix}embeddings.cls_token": content["cls_token"],
        f"{prefix}embeddings.position_embeddings": content["pos_embed"],
    }
    for kind in ("weight", "bias"):
        result |= {
            f"{prefix}embeddings.patch_embeddings.projection.{kind}": content[f"patch_embed.proj.{kind}"],
            f"{prefix}layernorm.{kind}": content[f"norm.{kind}"],
            f"{head}.{kind}": content[f"head.{kind}"],
        }
        for i in range(2):
            block = f"{prefix}{names['block']}.{i}"
            for number, part in enumerate(("query", "key", "value")):
                rows = content[f"blocks.{i}.attn.qkv.{kind}"][24 * number : 24 * (number + 1)]
                result[f"{block}.{names[part]}.{kind}"] = rows
            result |= {
                f"{block}.layernorm_before.{kind}": content[f"blocks.{i}.norm1.{kind}"],
                f"{block}.layernorm_after.{kind}": content[f"blocks.{i}.norm2.{kind}"],
                f"{block}.{names['out']}.{kind}": content[f"blocks.{i}.attn.proj.{kind}"],
                f"{block}.{names['fc1']}.{kind}": content[f"blocks.{i}.mlp.fc1.{kind}"],
                f"{block}.{names['fc2']}.{kind}": content[f"blocks.{i}.mlp.fc2.{kind}"],
            }
    return result


class TestHuggingFace:
    @pytest.mark.parametrize("names", [NEW, OLD], ids=["transformers 5", "before"])
    @pytest.mark.parametrize("beginning", ["", "module.", "base_model.model."])
    def test_a_classifier(self, names, beginning, expected, tmp_path):
        report = is_loaded(write(tmp_path, inside(beginning, hugging_face(names))), expected)
        assert report.project == "Hugging Face" and report.beginning == beginning and not report.unused

    def test_a_bare_model_with_a_pooler(self, expected, tmp_path):
        content = {name: array for name, array in hugging_face(NEW, "").items() if not name.startswith("classifier")}
        content |= {"pooler.dense.weight": noise(24, 24), "pooler.dense.bias": noise(24)}
        target = model()
        report = keras_vit.load_weights(target, write(tmp_path, content), head="auto")
        assert report.left_as_it_was == ["head/kernel", "head/bias"]
        assert report.unused == ["pooler.dense.bias", "pooler.dense.weight"]
        assert all(np.array_equal(a, b) for a, b in zip(target.get_weights()[:-2], expected[:-2], strict=True))

    @pytest.mark.parametrize("names", [NEW, OLD], ids=["transformers 5", "before"])
    def test_a_deit_with_two_heads(self, names, tmp_path):
        content = hugging_face(names, "deit.", "cls_classifier")
        content["deit.embeddings.distillation_token"] = noise(1, 1, 24)
        content["deit.embeddings.position_embeddings"] = noise(1, 18, 24)
        content |= {"distillation_classifier.weight": noise(5, 24), "distillation_classifier.bias": noise(5)}
        target = keras_vit.DeiT(
            classes=5, distilled=True, input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3
        )
        report = keras_vit.load_weights(target, write(tmp_path, content))
        assert len(report.loaded) == len(target.weights) and not report.unused
        rows = arrays()["blocks.1.attn.qkv.weight"]
        np.testing.assert_array_equal(target.get_layer("block_1").attention.value.kernel, rows[48:].T)
        np.testing.assert_array_equal(target.get_layer("head_dist").bias, content["distillation_classifier.bias"])

    def test_a_masked_autoencoder(self, expected, tmp_path):
        content = {name: array for name, array in hugging_face(NEW).items() if not name.startswith("classifier")}
        content |= {"decoder.mask_token": noise(1, 1, 8), "decoder.decoder_embed.weight": noise(8, 24)}
        content |= {f"decoder.decoder_layers.0.{name}.weight": noise(8, 8) for name in NEW.values()}
        path = write(tmp_path, content)
        match = r"more than the weights of 'vit': decoder\..* \(the first of 9\).*ignore=\['decoder\.\*'\]"
        refuses(path, ValueError, match, head="auto")
        target = model()
        report = keras_vit.load_weights(target, path, head="auto", ignore="decoder.*")
        assert len(report.ignored) == 9 and not report.unused
        assert all(np.array_equal(a, b) for a, b in zip(target.get_weights()[:-2], expected[:-2], strict=True))

    def test_a_mask_token_within_the_embeddings(self, expected, tmp_path):
        path = write(tmp_path, hugging_face(NEW) | {"vit.embeddings.mask_token": noise(1, 1, 24)})
        refuses(path, ValueError, r"embeddings\.mask_token has no counterpart.*ignore=\['embeddings\.mask_token'\]")
        for pattern in ("embeddings.mask_token", "*mask_token", "vit.embeddings.mask_token"):
            assert is_loaded(path, expected, ignore=pattern).ignored


class TestArraysBesideTheWeights:
    MAE = {"mask_token": (1, 1, 8), "decoder_pos_embed": (1, 17, 8), "decoder_embed.weight": (8, 24),
           "decoder_blocks.0.norm1.weight": (8,), "decoder_blocks.1.norm1.weight": (8,), "decoder_norm.weight": (8,),
           "decoder_pred.weight": (48, 8)}  # fmt: skip

    def test_the_decoder_of_a_masked_autoencoder(self, expected, tmp_path):
        path = write(tmp_path, arrays() | {name: noise(*shape) for name, shape in self.MAE.items()})
        message = refuses(path, ValueError, r"decoder_blocks\.0\.norm1\.weight has no counterpart .*\(the first of 6\)")
        assert message.endswith("To leave that out, pass ignore=['decoder_*'].")
        report = is_loaded(path, expected, ignore=["decoder_*", "mask_*"])
        assert sorted(report.ignored) == sorted(self.MAE) and "ignored: decoder_blocks.0.norm1.weight, " in str(report)
        assert sorted(is_loaded(path, expected, partial=True).unused) == sorted(self.MAE)

    @pytest.mark.parametrize(
        ("own", "copy"),
        [
            ("model.", "model_ema."),
            ("", "ema."),
            ("student.backbone.", "teacher.backbone."),
            ("module.", "module_ema."),
        ],
    )
    def test_two_copies(self, own, copy, expected, tmp_path):
        moved = {name: array + 1 for name, array in arrays().items()}
        path = write(tmp_path, inside(own, arrays()) | inside(copy, moved))
        other = f"{copy.split('.')[0]}."
        match = rf"holds 2 copies of the weights.*'{other}'.*ignore='{other}\*'".replace(".'", r"\.'")
        refuses(path, ValueError, match)
        report = is_loaded(path, expected, ignore=f"{other}*")
        assert report.beginning == own and len(report.ignored) == len(moved)
        target = model()
        if own:
            keras_vit.load_weights(target, path, ignore=f"{own}*")
            np.testing.assert_array_equal(target.get_layer("norm").gamma, moved["norm.weight"])

    def test_a_projection_head_of_self_supervised_training(self, expected, tmp_path):
        content = inside("student.backbone.", arrays()) | {"student.head.mlp.0.weight": noise(8, 24)}
        path = write(tmp_path, content)
        refuses(path, ValueError, r"student\.head\.mlp\.0\.weight has no counterpart.*ignore=\['student\.head\.\*'\]")
        assert is_loaded(path, expected, ignore="student.head.*").beginning == "student.backbone."

    def test_the_text_model_beside_an_image_model(self, expected, tmp_path):
        content = inside("visual.trunk.", arrays())
        content |= {
            "text.token_embedding.weight": noise(9, 8),
            "text.ln_final.weight": noise(8),
            "logit_scale": noise(1),
        }
        path = write(tmp_path, content)
        message = refuses(path, ValueError, "logit_scale has no counterpart in the model .the first of 3")
        assert message.endswith("ignore=['logit_scale', 'text.*'].")
        assert is_loaded(path, expected, ignore=["text.*", "logit_scale"]).beginning == "visual.trunk."

    def test_a_pattern_that_matches_nothing(self, tmp_path):
        refuses(write(tmp_path, arrays()), ValueError, r"ignore='decodr\*' matches none of the names", ignore="decodr*")

    def test_an_array_that_the_model_needs(self, tmp_path):
        path = write(tmp_path, arrays())
        refuses(path, ValueError, r"norm\.weight is missing from the file \(the first of 2\)", ignore="norm.*")
        target = model()
        report = keras_vit.load_weights(target, path, ignore="norm.*", partial=True)
        assert report.left_as_it_was == ["norm/gamma", "norm/beta"] and report.ignored == ["norm.bias", "norm.weight"]
        np.testing.assert_array_equal(target.get_layer("norm").gamma, np.ones(24))

    def test_layers_before_the_head_are_not_left_out_with_it(self, tmp_path):
        content = arrays() | {"pre_logits.fc.weight": noise(24, 24), "pre_logits.fc.bias": noise(24)}
        path = write(tmp_path, content)
        refuses(path, ValueError, r"pre_logits\.fc\.bias has no counterpart")
        for report in (
            keras_vit.load_weights(model(), path, head=False),
            keras_vit.load_weights(model(include_top=False), path),
        ):
            assert {"pre_logits.fc.bias", "pre_logits.fc.weight"} <= set(report.unused)


class TestAPart:
    def test_a_part_is_loaded_only_when_asked(self, tmp_path):
        path = write(tmp_path, arrays(depth=4))
        refuses(path, ValueError, r"another model than 'vit': blocks\.2\..*first of 24.*partial=True")
        target = model()
        report = keras_vit.load_weights(target, path, partial=True)
        assert equal(target, assigned(arrays(depth=4), model())) and len(report.unused) == 24

    def test_another_head_is_left_out(self, tmp_path):
        report = keras_vit.load_weights(model(), write(tmp_path, arrays(classes=9, depth=3)), partial=True)
        assert report.left_as_it_was == ["head/kernel", "head/bias"]

    def test_nothing_in_common_is_no_part(self, tmp_path):
        path = write(tmp_path, {"features.0.weight": noise(3, 3)})
        refuses(path, ValueError, r"none of its 1 arrays", partial=True)


class TestShardsAndFolders:
    def test_every_way_to_name_a_sharded_file(self, expected, tmp_path):
        index = write_shards(tmp_path, arrays())
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
        for path in (index, tmp_path, tmp_path / "model-00002-of-00003.safetensors"):
            assert not is_loaded(path, expected).unused
        index.unlink()
        is_loaded(tmp_path, expected)

    def test_a_missing_shard(self, tmp_path):
        index = write_shards(tmp_path, arrays())
        (tmp_path / "model-00003-of-00003.safetensors").unlink()
        for path in (index, tmp_path, tmp_path / "model-00001-of-00003.safetensors"):
            refuses(path, FileNotFoundError, r"3 shards, of which 'model-00003-of-00003\.safetensors' is missing")

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map"'])
    def test_a_damaged_index(self, text, tmp_path):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        refuses(tmp_path, ValueError, "is truncated or not the index of a sharded")

    def test_an_index_reads_only_beside_itself(self, tmp_path):
        (tmp_path / "inside").mkdir()
        write(tmp_path, arrays())
        index = tmp_path / "inside" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": dict.fromkeys(arrays(), "../weights.safetensors")}))
        refuses(index, FileNotFoundError, r"'weights\.safetensors' is missing")

    def test_a_folder_that_save_pretrained_wrote(self, expected, tmp_path):
        write(tmp_path, hugging_face(OLD), "model.safetensors")
        for name in ("config.json", "preprocessor_config.json", "README.md", "training_args.bin", "tf_model.h5"):
            (tmp_path / name).write_text("{}")
        assert is_loaded(tmp_path, expected).project == "Hugging Face"
        built = model(weights=str(tmp_path))
        np.testing.assert_array_equal(built.get_layer("head").bias, arrays()["head.bias"])

    def test_a_variant_takes_a_folder_too(self, tmp_path):
        write(tmp_path, arrays())
        small = dict(depth=2, width=24, mlp_dim=96, num_heads=3, input_shape=(16, 16, 3), patch_size=4, classes=5)
        built = keras_vit.ViT_Ti16(weights=str(tmp_path), **small)
        np.testing.assert_array_equal(built.get_layer("norm").gamma, arrays()["norm.weight"])

    def test_a_folder_with_one_file(self, expected, tmp_path):
        write(tmp_path, arrays(), "anything.safetensors")
        is_loaded(tmp_path, expected)

    def test_a_folder_with_several(self, tmp_path):
        for name in ("a.safetensors", "b.safetensors"):
            write(tmp_path, arrays(), name)
        refuses(tmp_path, ValueError, r"2 weights files: 'a\.safetensors', 'b\.safetensors'\. Pass the path of one")

    def test_a_folder_without_any(self, tmp_path):
        refuses(tmp_path, ValueError, "has no weights file .*: it has no files")
        (tmp_path / "config.json").write_text("{}")
        refuses(tmp_path, ValueError, r"it has 'config\.json'")

    def test_a_folder_with_only_a_pickle(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
        (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
        refuses(tmp_path, ValueError, "pytorch_model.bin' is a pickle and is refused")

    def test_shards_that_keras_wrote(self, tmp_path):
        source, target = model(), model()
        source.save_weights(tmp_path / "vit.weights.json", max_shard_size=2e-5)
        keras_vit.load_weights(target, tmp_path)
        assert equal(source, target)


class TestWrongFiles:
    """`refuses` checks that each message is short."""

    def test_a_deeper_and_wider_model(self, tmp_path):
        source = keras_vit.ViT(classes=5, input_shape=(16, 16, 3), patch_size=4, width=48, depth=12, num_heads=3)
        save_file({weight.path: weight.numpy() for weight in source.weights}, tmp_path / "large.safetensors")
        facts = r"projection/bias is \(48,\) in the file and \(24,\) in .*first of 36.*; block_2.*first of 160\)\.$"
        refuses(tmp_path / "large.safetensors", ValueError, facts)

    def test_another_family_is_named(self, tmp_path):
        from tests.reference import timm_weights

        content = {name: array for name, array in timm_weights("mobilevit_xxs").items() if "transformer" not in name}
        refuses(write(tmp_path, content), ValueError, "another model.*timm's names of the family 'mobilevit'")

    def test_an_adapter(self, tmp_path):
        lora = {f"base_model.model.blocks.0.attn.qkv.lora_{part}.weight": noise(4, 24) for part in "AB"}
        refuses(write(tmp_path, lora), ValueError, r"low-rank adapter .*merge_and_unload\(\)")
        refuses(write(tmp_path, lora | inside("base_model.model.", arrays())), ValueError, "low-rank adapter")

    def test_a_keras_model_of_other_layers(self, tmp_path):
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first")])
        other.save_weights(tmp_path / "other.weights.h5")
        refuses(tmp_path / "other.weights.h5", ValueError, r"none of its 2 arrays \(such as first/0, first/1\)")
