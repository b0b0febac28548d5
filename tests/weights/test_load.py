"""Loading weights: which files are refused, what is resized, and that a refused file does not change the model."""

import pickle

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from tests.weights.files import SETTINGS, arrays, model, refuses, write


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


def test_another_number_of_classes_in_a_model_function(tmp_path):
    path = write(tmp_path, arrays(classes=9))
    with pytest.warns(UserWarning, match=r"no weights for these parts of 'vit'.*head/kernel, head/bias"):
        built = model(weights=path)
    np.testing.assert_array_equal(built.get_layer("norm").gamma, arrays(classes=9)["norm.weight"])
    assert built.output_shape == (None, 5)


def test_a_head_that_may_differ_is_loaded_where_it_fits(tmp_path):
    assert "head/kernel" in keras_vit.load_weights(model(), write(tmp_path, arrays()), head="auto").loaded
    headless = {name: array for name, array in arrays().items() if not name.startswith("head")}
    path = write(tmp_path, headless, "headless.safetensors")
    assert keras_vit.load_weights(model(), path, head="auto").left_as_it_was == ["head/kernel", "head/bias"]
    refuses(path, ValueError, r"head\.weight is missing from the file")


def test_an_unknown_value_of_head(tmp_path):
    refuses(write(tmp_path, arrays()), ValueError, "received 'new'", head="new")


class TestAnotherImageSize:
    def loaded(self, tmp_path, target, content, **settings):
        return keras_vit.load_weights(target, write(tmp_path, content), **settings)

    @pytest.mark.parametrize(("builder", "method"), [(keras_vit.ViT, "linear"), (keras_vit.DeiT, "cubic")])
    @pytest.mark.parametrize("shape", [(24, 32, 3), (8, 8, 3), (32, 8, 3)])
    def test_each_family_has_the_method_of_its_authors(self, builder, method, shape, tmp_path):
        # 32 x 8 has the same number of patches as 16 x 16, in a different grid.
        target = builder(classes=5, **{**SETTINGS, "input_shape": shape})
        report = self.loaded(tmp_path, target, arrays())
        assert report.resized == ["position_embedding/table"] and not report.adapted
        grid = (shape[0] // 4, shape[1] // 4)
        expected = keras_vit.layers.resize_positions(arrays()["pos_embed"], (4, 4), grid, method)
        np.testing.assert_allclose(target.get_layer("position_embedding").table, expected, atol=1e-6)

    def test_from_a_grid_that_is_not_square(self, tmp_path):
        content = arrays()
        content["pos_embed"] = content["pos_embed"][:, :13]  # 2 x 6 patches and the class token
        refuses(write(tmp_path, content), ValueError, r"13 rows.*position_grid=\(rows, columns\)")
        refuses(write(tmp_path, content), ValueError, "is not a grid of 4 x 5", position_grid=(4, 5))
        target = model()
        assert self.loaded(tmp_path, target, content, position_grid=(2, 6)).resized
        expected = keras_vit.layers.resize_positions(content["pos_embed"], (2, 6), (4, 4))
        np.testing.assert_allclose(target.get_layer("position_embedding").table, expected, atol=1e-6)

    def test_the_grid_of_the_model_is_recognized(self, tmp_path):
        content = arrays()
        content["pos_embed"] = content["pos_embed"][:, :16]
        target = model(input_shape=(12, 20, 3))
        assert not self.loaded(tmp_path, target, content).resized
        np.testing.assert_array_equal(target.get_layer("position_embedding").table, content["pos_embed"])


class TestFixedPositions:
    def test_a_file_without_a_table(self, tmp_path):
        content = {name: array for name, array in arrays().items() if name != "pos_embed"}
        report = keras_vit.load_weights(model(position_embedding="sincos2d"), write(tmp_path, content))
        assert report.left_as_it_was == ["position_embedding/table"]

    @pytest.mark.parametrize("shape", [(16, 16, 3), (24, 32, 3)])
    def test_a_file_with_the_same_fixed_positions(self, shape, tmp_path):
        # MAE's files have the table for its image size, with zeros for the class token.
        content = arrays()
        content["pos_embed"] = np.pad(
            keras_vit.layers.sincos_positions((4, 4), 24, "sincos2d_mae"), ((0, 0), (1, 0), (0, 0))
        )
        target = model(position_embedding="sincos2d_mae", input_shape=shape)
        keras_vit.load_weights(target, write(tmp_path, content))
        expected = keras_vit.layers.sincos_positions((shape[0] // 4, shape[1] // 4), 24, "sincos2d_mae")
        np.testing.assert_array_equal(target.get_layer("position_embedding").table, expected)
        np.testing.assert_array_equal(target.get_layer("class_token").token, content["cls_token"])

    def test_a_file_with_other_positions_is_refused(self, tmp_path):
        refuses(
            write(tmp_path, arrays()), ValueError, "position_embedding='learned'", model(position_embedding="sincos2d")
        )


class TestTheClassTokensPosition:
    """A class token and its position are always added, so a token with and one without a position are equivalent."""

    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")

    def test_a_position_in_the_file_is_added_to_the_token(self, tmp_path):
        path = write(tmp_path, arrays())
        with_, without = model(), model(position_on_class_token=False)
        keras_vit.load_weights(with_, path)
        report = keras_vit.load_weights(without, path)
        assert report.adapted == ["position_embedding/table", "class_token/token"]
        np.testing.assert_allclose(without(self.images), with_(self.images), atol=1e-5)

    def test_a_position_that_the_file_lacks_is_zero(self, tmp_path):
        content = arrays()
        content["pos_embed"] = content["pos_embed"][:, 1:]
        path = write(tmp_path, content)
        with_, without = model(), model(position_on_class_token=False)
        assert keras_vit.load_weights(with_, path).adapted == ["position_embedding/table"]
        assert not keras_vit.load_weights(without, path).adapted
        np.testing.assert_allclose(with_(self.images), without(self.images), atol=1e-5)

    def test_with_another_image_size(self, tmp_path):
        path = write(tmp_path, arrays())
        with_, without = (model(position_on_class_token=on, input_shape=(24, 20, 3)) for on in (True, False))
        keras_vit.load_weights(with_, path)
        assert keras_vit.load_weights(without, path).resized == ["position_embedding/table"]
        images = np.random.default_rng(0).normal(size=(2, 24, 20, 3)).astype("float32")
        np.testing.assert_allclose(without(images), with_(images), atol=1e-5)


class TestAnotherNumberOfImageChannels:
    def models(self, tmp_path, channels):
        path = write(tmp_path, arrays())
        color, other = model(), model(input_shape=(16, 16, channels))
        assert not keras_vit.load_weights(color, path).adapted
        assert keras_vit.load_weights(other, path).adapted == ["patch_embedding.projection/kernel"]
        return color, other

    def test_the_kernel_for_one_channel_is_the_sum(self, tmp_path):
        color, gray = self.models(tmp_path, 1)
        images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32")
        np.testing.assert_allclose(gray(images), color(np.repeat(images, 3, axis=3)), atol=1e-4)

    def test_the_kernel_is_repeated_for_six_channels(self, tmp_path):
        color, six = self.models(tmp_path, 6)
        images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
        np.testing.assert_allclose(six(np.concatenate([images, images], axis=3)), color(images), atol=1e-4)

    def test_the_fourth_channel_repeats_the_first(self, tmp_path):
        _, four = self.models(tmp_path, 4)
        kernel = arrays()["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
        expected = np.concatenate([kernel, kernel[:, :, :1]], axis=2) * 3 / 4
        np.testing.assert_allclose(four.get_layer("patch_embedding").projection.kernel, expected, atol=1e-6)

    def test_other_kernels_are_not_adapted(self, tmp_path):
        content = arrays()
        content["patch_embed.proj.weight"] = np.zeros((24, 2, 4, 4), "float32")
        refuses(write(tmp_path, content), ValueError, r"\(4, 4, 2, 24\) in the file and \(4, 4, 3, 24\) in the model")


def test_a_model_without_the_top_leaves_the_head(tmp_path):
    report = keras_vit.load_weights(model(include_top=False), write(tmp_path, arrays()))
    assert report.unused == ["head.bias", "head.weight"]
    assert "unused: head.bias, head.weight" in str(report)


def test_a_deeper_model(tmp_path):
    refuses(write(tmp_path, arrays(depth=3)), ValueError, r"another model than 'vit': blocks\.2\..*has no counterpart")


def test_a_shallower_model(tmp_path):
    refuses(write(tmp_path, arrays(depth=1)), ValueError, r"blocks\.1\..* is missing from the file")


def test_a_wider_model(tmp_path):
    match = r"projection/kernel is \(4, 4, 3, 24\) in the file and \(4, 4, 3, 48\) in the model \(the first of 38\)\.$"
    refuses(write(tmp_path, arrays()), ValueError, match, model(width=48))


def test_a_file_of_another_architecture(tmp_path):
    path = write(tmp_path, {"features.0.weight": np.zeros((3, 3), "float32")})
    refuses(path, ValueError, r"none of its 1 arrays \(such as features\.0\.weight\)")


def test_a_model_that_is_not_of_keras_vit(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="output")])
    refuses(write(tmp_path, arrays()), ValueError, "no family of keras_vit", other)


def test_values_that_are_not_finite(tmp_path):
    content = arrays()
    content["norm.weight"][3] = np.nan
    refuses(write(tmp_path, content), ValueError, r"'norm\.weight' holds values that are not finite")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "npz", "weights.h5", "keras"])
def test_a_truncated_file(kind, keep, tmp_path):
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(arrays(), path)
    elif kind == "npz":
        np.savez(path, **arrays())
    elif kind == "keras":
        model().save(path)
    else:
        model().save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    refuses(path, ValueError, "is truncated or")


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "bin"])
def test_a_pickle_is_refused_without_reading_it(suffix, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps({"weight": Bomb()}))
    refuses(path, ValueError, r"unpickling runs code.*(?s:.*)weights_only=True")
    assert not (tmp_path / "exploded").exists()


def test_an_npz_with_pickled_objects_is_refused_without_reading_it(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "model.npz"
    np.savez(path, cls=np.array([Bomb()], dtype=object))
    refuses(path, ValueError, "pickled objects")
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file(tmp_path):
    refuses(tmp_path / "none.safetensors", FileNotFoundError, r"none\.safetensors")


def test_an_unknown_kind(tmp_path):
    (tmp_path / "weights.txt").write_text("x")
    refuses(tmp_path / "weights.txt", ValueError, r"\.safetensors, \.npz")
