"""Loading weights: what is refused, what is resized, and that a refusal leaves the model as it was."""

import pickle

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit

SETTINGS = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3, classifier_activation=None)


def model(classes=5, **settings):
    return keras_vit.ViT(classes=classes, **{**SETTINGS, **settings})


def arrays(classes=5, grid=4, depth=2):
    random = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, 24),
        "pos_embed": (1, grid * grid + 1, 24),
        "patch_embed.proj.weight": (24, 3, 4, 4),
        "patch_embed.proj.bias": (24,),
        "norm.weight": (24,),
        "norm.bias": (24,),
        "head.weight": (classes, 24),
        "head.bias": (classes,),
    }
    for i in range(depth):
        for name, shape in {
            "norm1": (24,), "norm2": (24,), "attn.qkv": (72, 24), "attn.proj": (24, 24), "mlp.fc1": (96, 24),
            "mlp.fc2": (24, 96),
        }.items():  # fmt: skip
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def write(folder, content, name="weights.safetensors"):
    save_file(content, folder / name)
    return folder / name


def refuses(path, error, match, target=None, **arguments):
    target = model() if target is None else target
    before = target.get_weights()
    with pytest.raises(error, match=match):
        keras_vit.load_weights(target, path, **arguments)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_everything_in_a_good_file_is_used(tmp_path):
    target = model()
    report = keras_vit.load_weights(target, write(tmp_path, arrays()))
    assert len(report.loaded) == len(target.weights) and not report.unused
    np.testing.assert_array_equal(target.get_layer("head").kernel, arrays()["head.weight"].T)


def test_weights_argument_of_the_builder(tmp_path):
    built = model(weights=write(tmp_path, arrays()))
    np.testing.assert_array_equal(built.get_layer("head").bias, arrays()["head.bias"])


def test_another_number_of_classes(tmp_path):
    path = write(tmp_path, arrays(classes=9))
    refuses(path, ValueError, "has 9 classes and the model 'vit' has 5.*head=False")
    target = model()
    head = np.array(target.get_layer("head").kernel.numpy())
    report = keras_vit.load_weights(target, path, head=False)
    assert report.left_as_it_was == ["head/kernel", "head/bias"]
    np.testing.assert_array_equal(target.get_layer("head").kernel, head)
    np.testing.assert_array_equal(target.get_layer("norm").gamma, arrays(classes=9)["norm.weight"])


def test_another_image_size_resizes_the_positions(tmp_path):
    target = model(input_shape=(24, 32, 3))
    report = keras_vit.load_weights(target, write(tmp_path, arrays()))
    assert report.resized == ["position_embedding/table"]
    expected = keras_vit.layers.resize_positions(arrays()["pos_embed"], (4, 4), (6, 8))
    np.testing.assert_allclose(target.get_layer("position_embedding").table, expected, atol=1e-6)


def test_a_model_without_the_top_leaves_the_head(tmp_path):
    report = keras_vit.load_weights(model(include_top=False), write(tmp_path, arrays()))
    assert report.unused == ["head.bias", "head.weight"]
    assert "unused: head.bias, head.weight" in str(report)


def test_a_deeper_model(tmp_path):
    refuses(write(tmp_path, arrays(depth=3)), ValueError, r"another model than 'vit': blocks\.2\..*has no place")


def test_a_shallower_model(tmp_path):
    refuses(write(tmp_path, arrays(depth=1)), ValueError, r"blocks\.1\..* is missing from the file")


def test_a_wider_model(tmp_path):
    refuses(write(tmp_path, arrays()), ValueError, r"is \(24,\) in the file and \(48,\) in the model", model(width=48))


def test_a_file_of_something_else(tmp_path):
    path = write(tmp_path, {"features.0.weight": np.zeros((3, 3), "float32")})
    refuses(path, ValueError, r"none of its 1 arrays \(such as features\.0\.weight\)")


def test_a_model_of_something_else(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="output")])
    refuses(write(tmp_path, arrays()), ValueError, "no family of keras_vit", other)


def test_values_that_are_not_finite(tmp_path):
    content = arrays()
    content["norm.weight"][3] = np.nan
    refuses(write(tmp_path, content), ValueError, r"'norm\.weight' holds values that are not finite")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "npz", "weights.h5"])
def test_a_truncated_file(kind, keep, tmp_path):
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(arrays(), path)
    elif kind == "npz":
        np.savez(path, **arrays())
    else:
        model().save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    refuses(path, ValueError, "is truncated or")


def test_a_keras_weights_file(tmp_path):
    source, target = model(), model()
    source.save_weights(tmp_path / "model.weights.h5")
    keras_vit.load_weights(target, tmp_path / "model.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(source.get_weights(), target.get_weights(), strict=True))


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "bin"])
def test_a_pickle_is_refused_unread(suffix, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps({"weight": Bomb()}))
    refuses(path, ValueError, r"unpickling runs code.*(?s:.*)weights_only=True")
    assert not (tmp_path / "exploded").exists()


def test_an_npz_with_pickled_objects_is_refused_unread(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "model.npz"
    np.savez(path, cls=np.array([Bomb()], dtype=object))
    refuses(path, ValueError, "pickled objects")
    assert not (tmp_path / "exploded").exists()


def test_no_file(tmp_path):
    refuses(tmp_path / "none.safetensors", FileNotFoundError, r"none\.safetensors")


def test_an_unknown_kind(tmp_path):
    (tmp_path / "weights.txt").write_text("x")
    refuses(tmp_path / "weights.txt", ValueError, r"\.safetensors, \.npz")
