"""Weights by tag: downloaded, cached, checked, and never silently replaced by random ones."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import keras_vit
from keras_vit.cli.main import main
from keras_vit.models.image_facts import IMAGENET
from keras_vit.models.preprocessing import image_facts
from keras_vit.models.registry import find_weights
from tests.weights.hub_server import serve

TAG = "augreg_in21k_ft_in1k"
# ViT-Ti/16 with one narrow block, because the download does not depend on the size.
TINY = dict(depth=1, width=12, num_heads=3, mlp_dim=24, classifier_activation=None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits between attempts.
    with serve() as (address, hub):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub


@pytest.fixture
def no_hub(monkeypatch):
    """Return a function that stops the server in HF_ENDPOINT."""

    def close():
        with serve() as (address, _):
            pass
        monkeypatch.setenv("HF_ENDPOINT", address)

    return close


def arrays(classes=1000, grid=14, width=12):
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for name, shape in {
        "blocks.0.norm1": (width,),
        "blocks.0.attn.qkv": (3 * width, width),
        "blocks.0.attn.proj": (width, width),
        "blocks.0.norm2": (width,),
        "blocks.0.mlp.fc1": (2 * width, width),
        "blocks.0.mlp.fc2": (width, 2 * width),
        "norm": (width,),
        **({} if classes is None else {"head": (classes, width)}),
    }.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def offer(hub, tag=TAG, model="vit_ti16", **form):
    content = save(arrays(**form))
    hub.put(find_weights(model, tag), content)
    return content


def refused(error, match, **arguments):
    with pytest.raises(error, match=match) as caught:
        keras_vit.ViT_Ti16(**{"weights": TAG, **TINY, **arguments})
    return str(caught.value)


def test_a_tag_is_downloaded_once(hub):
    offer(hub)
    model = keras_vit.ViT_Ti16(weights=TAG, **TINY)
    np.testing.assert_array_equal(model.get_layer("head").kernel, arrays()["head.weight"].T)
    assert hub.downloads == 1
    again = keras_vit.create_model("vit_ti16", weights=TAG, **TINY)
    assert hub.downloads == 1
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


def test_a_checkpoint_brings_its_size_classes_and_name(hub):
    offer(hub, f"{TAG}_384", grid=24)
    offer(hub, "augreg_in21k", classes=21843)
    large = keras_vit.ViT_Ti16(weights=f"{TAG}_384", **TINY)
    assert large.input_shape == (None, 384, 384, 3) and large.name == f"vit_ti16.{TAG}_384"
    np.testing.assert_array_equal(large.get_layer("position_embedding").table, arrays(grid=24)["pos_embed"])
    assert keras_vit.ViT_Ti16(weights="augreg_in21k", **TINY).output_shape == (None, 21843)


def test_the_caller_can_choose_another_size(hub):
    offer(hub, f"{TAG}_384", grid=24)
    small = keras_vit.ViT_Ti16(weights=f"{TAG}_384", input_shape=(224, 224, 3), name="mine", **TINY)
    assert small.input_shape == (None, 224, 224, 3) and small.name == "mine"
    expected = keras_vit.layers.resize_positions(arrays(grid=24)["pos_embed"], (24, 24), (14, 14))
    np.testing.assert_allclose(small.get_layer("position_embedding").table, expected, atol=1e-6)


def test_another_number_of_classes_gets_a_new_head(hub):
    offer(hub)
    model = keras_vit.ViT_Ti16(weights=TAG, classes=37, **TINY)
    assert model.output_shape == (None, 37)
    np.testing.assert_array_equal(model.get_layer("norm").gamma, arrays()["norm.weight"])
    assert np.all(np.isfinite(model.get_layer("head").kernel))


def test_weights_without_a_classifier(hub):
    record = find_weights("vit_b16", "dino")
    hub.put(record, save(arrays(classes=None)))
    with pytest.raises(ValueError, match=r"'dino' of 'vit_b16' have no classifier: pass classes .* include_top=False"):
        keras_vit.ViT_B16(weights="dino", **TINY)
    assert not hub.requests
    assert keras_vit.ViT_B16(weights="dino", classes=10, **TINY).output_shape == (None, 10)
    body = keras_vit.ViT_B16(weights="dino", include_top=False, pooling="token", **TINY)
    np.testing.assert_array_equal(body.get_layer("norm").gamma, arrays()["norm.weight"])


def test_a_checkpoint_brings_its_statistics(hub):
    hub.put(find_weights("vit_b16", "dino"), save(arrays(classes=None)))
    offer(hub)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    for build, tag, mean, std in (
        (keras_vit.ViT_B16, "dino", IMAGENET.mean, IMAGENET.std),
        (keras_vit.ViT_Ti16, TAG, 0.5, 0.5),
    ):
        body = dict(weights=tag, include_top=False, pooling="token", **TINY)
        within = build(include_preprocessing=True, **body)
        model = build(name="mine", **body)
        np.testing.assert_allclose(within(pixels), model((pixels / 255 - mean) / std), atol=1e-4)
        facts = image_facts(model)
        assert facts == find_weights(facts.source.split(".")[0], tag).image_facts and facts.statistics.mean == mean


def test_an_unknown_tag(hub):
    refused(ValueError, rf"'augreg_in21k_ft_1k' is neither .*nearest are {TAG}", weights="augreg_in21k_ft_1k")
    refused(ValueError, r"'none.safetensors' is neither a file", weights="none.safetensors")
    with pytest.raises(ValueError, match="No weights are published for 'vit_g14'"):
        keras_vit.ViT_g14(weights="augreg_in21k", **TINY)
    assert not hub.requests


def test_a_path_needs_no_hub(hub, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(save(arrays()))
    assert keras_vit.ViT_Ti16(weights=tmp_path / "mine.safetensors", **TINY).name == "vit_ti16"
    assert not hub.requests


def test_a_file_that_the_hub_does_not_have(hub, tmp_path):
    message = refused(ConnectionError, "'augreg_in21k_ft_in1k' of 'vit_ti16' could not be downloaded")
    repository = f"timm/vit_tiny_patch16_224.{TAG}"
    assert f"{os.environ['HF_ENDPOINT']}/{repository}/resolve/main/model.safetensors" in message
    assert str(tmp_path / "cache" / repository / "model.safetensors") in message


def test_a_connection_that_breaks(hub):
    offer(hub)
    hub.broken = True
    refused(ConnectionError, "could not be downloaded")
    assert hub.downloads >= 1
    hub.broken = False
    assert keras_vit.ViT_Ti16(weights=TAG, **TINY).name == f"vit_ti16.{TAG}"


def test_a_download_that_is_not_a_weights_file(hub):
    hub.put(find_weights("vit_ti16", TAG), b"<html>Sign in to the network</html>")
    again = rf"model\.safetensors' is truncated or not .*download_weights\('vit_ti16', '{TAG}', again=True\)"
    refused(ValueError, again)
    refused(ValueError, again)


def test_a_corrupt_file_in_the_cache_is_named_and_can_be_downloaded_again(hub):
    content = offer(hub)
    path = Path(keras_vit.download_weights("vit_ti16", TAG))
    path.resolve().write_bytes(content[:-100])
    assert str(path) in refused(ValueError, "truncated")
    assert keras_vit.download_weights("vit_ti16", TAG, again=True) == str(path)
    assert path.read_bytes() == content
    keras_vit.ViT_Ti16(weights=TAG, **TINY)


def test_weights_of_another_architecture(hub):
    offer(hub, width=24)
    refused(
        ValueError, r"another model than 'vit_ti16.*\(16, 16, 3, 24\) in the file and \(16, 16, 3, 12\) in the model"
    )


def test_a_cached_file_needs_no_hub(hub, no_hub):
    offer(hub)
    path = keras_vit.download_weights("vit_ti16", TAG)
    no_hub()
    assert keras_vit.download_weights("vit_ti16", TAG) == path
    keras_vit.ViT_Ti16(weights=TAG, **TINY)


def test_a_file_put_in_place_by_hand(hub, no_hub, tmp_path):
    no_hub()
    message = refused(ConnectionError, "Without a network, download http")
    placed = Path(message.rsplit(" at ", 1)[1].strip("'."))
    assert placed.is_relative_to(tmp_path)
    placed.parent.mkdir(parents=True)
    placed.write_bytes(save(arrays()))
    model = keras_vit.ViT_Ti16(weights=TAG, **TINY)
    np.testing.assert_array_equal(model.get_layer("norm").gamma, arrays()["norm.weight"])
    with pytest.raises(ValueError, match="by hand: delete or replace it"):
        keras_vit.download_weights("vit_ti16", TAG, again=True)
    placed.write_bytes(placed.read_bytes()[:50])
    refused(ValueError, "truncated.*Delete or replace it")


def test_offline_with_the_file_in_hugging_faces_own_cache(hub, monkeypatch, tmp_path):
    offer(hub)
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "home" / "hub"))
    path = keras_vit.download_weights("vit_ti16", TAG)
    monkeypatch.delenv("KERAS_VIT_CACHE")
    before = len(hub.requests)
    script = (
        "import keras_vit\n"
        f"print(keras_vit.download_weights('vit_ti16', {TAG!r}))\n"
        "try: keras_vit.download_weights('vit_ti16', 'augreg_in21k')\n"
        "except ConnectionError as error: print(error)"
    )
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "KERAS_BACKEND": "jax",  # Starts faster.
    }
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.stdout.splitlines()[0] == path, result.stderr
    assert "'augreg_in21k' of 'vit_ti16' could not be downloaded" in result.stdout
    assert f"{tmp_path}/.cache/keras_vit/timm/vit_tiny_patch16_224.augreg_in21k/model.safetensors" in result.stdout
    assert len(hub.requests) == before


def test_the_command(hub, capsys):
    content = offer(hub)
    assert main(["weights", "vit_ti16", "--download", TAG]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == content
    assert main(["weights", "vit_ti16", "--download", "sam"]) == 1
    assert "'sam' is neither a file nor weights of 'vit_ti16'" in capsys.readouterr().err
