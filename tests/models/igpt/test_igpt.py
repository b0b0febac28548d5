"""iGPT: reference outputs, sizes, colors, names of published files, completion of images, and features."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from tests.models.cases import build, images_of
from tests.models.igpt.forms import TINY
from tests.reference import SCALES, fixture, relative_error, timm_file, timm_weights

FIXTURES = {
    "imagegpt_tiny": ("iGPT", {"input_shape": (8, 8, 3), "width": 64, "depth": 4, "num_heads": 4}),
    "imagegpt_small": ("iGPT_S", {}),
}
# Parameters of transformers' models, and width and depth. It has biases, which the authors do not have.
PUBLISHED = {
    "igpt_s": (76_682_240, 512, 24),
    "igpt_m": (455_489_536, 1024, 36),
    "igpt_l": (1_362_914_304, 1536, 48),
}
predicting = {"include_top": False, "predict_colors": True}


def fixture_model(name):
    builder, settings = FIXTURES[name]
    return getattr(keras_vit, builder)(**settings, **predicting)


def fixture_images(name, model):
    """Return images of the fixture's colors, and of any colors for the pixels that come after them."""
    tokens = fixture(name)["tokens"]
    assert np.all(tokens[:, 0] == 512)  # The start token.
    height, width, channels = model.input_shape[1:]
    colors = np.zeros((len(tokens), height * width), int)
    colors[:, : tokens.shape[1] - 1] = tokens[:, 1:]
    return np.asarray(model.get_layer("colors").centers)[colors].reshape(-1, height, width, channels)


@pytest.mark.parametrize("name", ["imagegpt_tiny", pytest.param("imagegpt_small", marks=pytest.mark.slow)])
def test_outputs_equal_the_reference(name, tmp_path):
    expected, model = fixture(name), fixture_model(name)
    assert sum(np.prod(v.shape) for v in model.trainable_weights) == int(expected["params_without_biases"])
    images = fixture_images(name, model)
    features = keras.Model(model.input, [model.get_layer("norm").output, model.output])
    for suffix, scale in zip(("", "_small", "_large"), SCALES.values(), strict=True):
        report = keras_vit.load_weights(model, timm_file(name, tmp_path, scale))
        assert report.left_as_it_was == ["colors/centers"] and not report.unused
        tokens, logits = (np.concatenate(parts) for parts in zip(*(features(i[None]) for i in images), strict=True))
        assert relative_error(logits[:, [31, 63]], expected[f"logits_positions_31_63{suffix}"]) < 1e-4
        if not suffix:
            sums = np.log(np.exp(logits[:, :64]).sum(axis=-1))
            assert relative_error(sums, expected["logits_logsumexp"]) < 1e-4
            assert relative_error(tokens.reshape(2, -1)[:, :256], expected["features_head"]) < 1e-4


@pytest.mark.parametrize("name", ["igpt_s", "igpt_m", pytest.param("igpt_l", marks=pytest.mark.slow)])
def test_parameters(name):
    parameters, width, depth = PUBLISHED[name]
    biases = depth * (3 * width + width + 4 * width + width)
    head = 1000 * (width + 1) - 512 * width  # Of classes, in place of that of colors.
    assert keras_vit.model_info(name)["parameters"] == parameters - biases + head


class TestColors:
    def test_each_pixel_has_its_nearest_color(self):
        model = keras_vit.iGPT(**TINY)
        centers = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype("float32")
        keras_vit.set_colors(model, centers)
        images = np.random.default_rng(1).integers(0, 256, (2, 6, 5, 3)).astype("float32") / 127.5 - 1
        found = keras.Model(model.input, model.get_layer("colors").output)(images)
        distances = np.square(images.reshape(2, 30, 1, 3).astype("float64") - centers).sum(axis=-1)
        np.testing.assert_array_equal(found, np.eye(12)[distances.argmin(axis=-1)])

    def test_equally_near_colors_share_the_pixel(self):
        layer = keras_vit.models.igpt.colors.NearestColor(3)
        images = np.array([[[[0.0]], [[0.5]]]], "float32")
        layer.build(images.shape)
        layer.centers.assign([[-0.25], [0.25], [1.0]])
        np.testing.assert_array_equal(layer(images), [[[0.5, 0.5, 0], [0, 1, 0]]])

    def test_colors_are_different_from_the_start(self):
        centers = np.asarray(keras_vit.iGPT(**{**TINY, "num_colors": 512}).get_layer("colors").centers)
        assert centers.min() >= -1 and centers.max() <= 1
        distances = np.square(centers[:, None] - centers).sum(axis=-1) + 10 * np.eye(512)
        assert distances.min() > 0.01

    def test_files_of_colors(self, tmp_path):
        model = keras_vit.iGPT(**TINY)
        colors = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype("float32")
        np.save(tmp_path / "kmeans_centers.npy", colors)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"clusters": (colors / 2).tolist()}))
        for file, expected in (("kmeans_centers.npy", colors), ("preprocessor_config.json", colors / 2)):
            keras_vit.set_colors(model, tmp_path / file)
            np.testing.assert_allclose(model.get_layer("colors").centers, expected, rtol=1e-6)
        (tmp_path / "empty.json").write_text("{}")
        with pytest.raises(ValueError, match="has no colors"):
            keras_vit.set_colors(model, tmp_path / "empty.json")
        with pytest.raises(ValueError, match="12 colors of 3 channels; received colors of the shape \\(7, 3\\)"):
            keras_vit.set_colors(model, colors[:7])
        with pytest.raises(ValueError, match="must be an iGPT"):
            keras_vit.set_colors(keras_vit.ViT(input_shape=(16, 16, 3), width=16, depth=1, num_heads=1), colors)

    def test_a_model_of_colors_gives_the_same(self):
        model = build("igpt: colors")
        numbers = np.random.default_rng(0).integers(0, 12, (2, 30))
        images = np.asarray(model.get_layer("colors").centers)[numbers].reshape(2, 6, 5, 3)
        given = keras_vit.model_of_colors(model)(numbers)
        np.testing.assert_allclose(given, model(images), atol=1e-5)


def test_a_pixel_depends_only_on_the_pixels_before_it():
    model, images = build("igpt: colors"), images_of(build("igpt: colors"), 1)
    changed = images.copy()
    changed[0, 2, 3] = np.asarray(model.get_layer("colors").centers)[5]
    same = np.asarray(model(images)) == np.asarray(model(changed))
    np.testing.assert_array_equal(same.all(axis=-1)[0], np.arange(30) <= 2 * 5 + 3)


def authors_arrays(arrays):
    """Return the arrays of transformers' names as the authors' code stores them."""
    found = {"model/wte": arrays["transformer.wte.weight"][:-1], "model/sos": arrays["transformer.wte.weight"][-1]}
    found["model/wpe"], found["model/wtet"] = arrays["transformer.wpe.weight"], arrays["lm_head.weight"]
    found["model/ln_f/g"] = arrays["transformer.ln_f.weight"]
    for block in range(4):
        theirs, ours = f"transformer.h.{block}", f"model/h{block}"
        for name, kernel in zip("qkv", np.split(arrays[f"{theirs}.attn.c_attn.weight"], 3, axis=1), strict=True):
            found[f"{ours}/attn/{name}_proj"] = kernel.T.reshape(4, 16, 64)
        found[f"{ours}/attn/c_proj"] = arrays[f"{theirs}.attn.c_proj.weight"].reshape(4, 16, 64)
        for part in ("c_fc", "c_proj"):
            found[f"{ours}/mlp/{part}/w"] = arrays[f"{theirs}.mlp.{part}.weight"]
        for part in ("ln_1", "ln_2"):
            found[f"{ours}/{part}/g"] = arrays[f"{theirs}.{part}.weight"]
    return found


class TestPublishedFiles:
    def test_the_authors_names(self, tmp_path):
        arrays = timm_weights("imagegpt_tiny")
        left, right = fixture_model("imagegpt_tiny"), fixture_model("imagegpt_tiny")
        keras_vit.load_weights(left, timm_file("imagegpt_tiny", tmp_path))
        np.savez(tmp_path / "authors.npz", **authors_arrays(arrays))
        report = keras_vit.load_weights(right, tmp_path / "authors.npz")
        assert report.project == "OpenAI" and not report.unused
        for a, b in zip(left.weights, right.weights, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_what_transformers_adds_is_left_out_and_colors_are_read(self, tmp_path):
        arrays = timm_weights("imagegpt_tiny")
        arrays["transformer.h.0.attn.c_attn.bias"] = np.zeros(192, "float32")
        arrays["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), bool))
        arrays["colors"] = np.random.default_rng(0).uniform(size=(512, 3)).astype("float32")
        save_file(arrays, tmp_path / "model.safetensors")
        model = fixture_model("imagegpt_tiny")
        report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
        assert not report.unused and not report.left_as_it_was
        np.testing.assert_array_equal(model.get_layer("colors").centers, arrays["colors"])

    def test_a_classifier_takes_all_but_the_head(self, tmp_path):
        path = timm_file("imagegpt_tiny", tmp_path)
        with pytest.warns(UserWarning, match="colors/centers"):
            keras_vit.iGPT(**FIXTURES["imagegpt_tiny"][1], classes=3, weights=path)


class TestCompletion:
    def model(self, **settings):
        return build("igpt: colors", **settings)

    @pytest.mark.parametrize(("rows", "temperature"), [(2, 1.0), (0, 0.5), (4, 0.0)])
    def test_it_draws_from_the_predictions_of_the_whole_model(self, rows, temperature):
        """A model without kept keys and values, which predicts all pixels for each one, draws the same."""
        model = self.model()
        images = images_of(model, 2)
        completed = keras_vit.complete_images(model, images, rows, temperature=temperature, seed=3)
        centers = np.asarray(model.get_layer("colors").centers)
        numbers = np.square(completed.reshape(2, 30, 1, 3) - centers).sum(axis=-1).argmin(axis=-1)
        np.testing.assert_array_equal(completed, centers[numbers].reshape(images.shape))
        kept = keras.Model(model.input, model.get_layer("colors").output)(images)
        np.testing.assert_array_equal(numbers[:, : rows * 5], np.argmax(kept, axis=-1)[:, : rows * 5])
        noise = np.random.default_rng(3).gumbel(size=(2, 30, 12))
        drawn = np.where(np.arange(30) < rows * 5, numbers, 0)
        of_colors = keras_vit.model_of_colors(model)
        for pixel in range(rows * 5, 30):
            logits = np.asarray(of_colors(drawn))[:, pixel]
            drawn[:, pixel] = (logits + temperature * noise[:, pixel]).argmax(axis=-1)
        np.testing.assert_array_equal(numbers, drawn)

    def test_the_seed_determines_the_result(self):
        model, images = self.model(), images_of(self.model(), 1)
        first, again, other = (keras_vit.complete_images(model, images, 1, seed=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert np.any(first != other)

    def test_pixels_from_0_to_255(self):
        plain, scaling = self.model(), self.model(include_preprocessing=True)
        images = images_of(plain, 1)
        expected = keras_vit.complete_images(plain, images, 3)
        completed = keras_vit.complete_images(scaling, (images + 1) * 127.5, 3)
        np.testing.assert_allclose(completed, (expected + 1) * 127.5, atol=1e-3)

    def test_errors(self):
        model = self.model()
        with pytest.raises(ValueError, match="must predict colors"):
            keras_vit.complete_images(build("igpt: classifier"), images_of(model), 1)
        with pytest.raises(ValueError, match="rows must be from 0 to the images' height, 6; received 7"):
            keras_vit.complete_images(model, images_of(model), 7)
        with pytest.raises(ValueError, match="temperature must be 0 or more"):
            keras_vit.complete_images(model, images_of(model), 1, temperature=-1)
        with pytest.raises(ValueError, match="predict_colors=True needs include_top=False"):
            keras_vit.iGPT(**TINY, predict_colors=True)


def test_features_of_a_block():
    model, images = build("igpt: classifier"), images_of(build("igpt: classifier"), 2)
    tokens = np.asarray(keras.Model(model.input, model.get_layer("block_0").output)(images), "float64")
    gamma = np.asarray(model.get_layer("block_1").norm1.gamma)
    normalized = tokens / np.sqrt(np.square(tokens).mean(axis=-1, keepdims=True) + 1e-5) * gamma
    np.testing.assert_allclose(keras_vit.probe_model(model)(images), normalized.mean(axis=1), atol=1e-5)
    assert keras_vit.probe_model(model, 0)(images).shape == (2, 24)
    with pytest.raises(ValueError, match="block must be from 0 to 1; received 2"):
        keras_vit.probe_model(model, 2)
