"""Masked autoencoders: the authors' outputs, masks, targets, training runs and transfer."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge, training
from keras_vit.training.self_supervised.callbacks import reconstruction_picture
from keras_vit.training.self_supervised.data import with_noise
from keras_vit.training.self_supervised.mae import predictions_of
from keras_vit.training.self_supervised.masking import FillHidden, VisibleTokens
from keras_vit.training.self_supervised.patches import to_images, to_patches
from tests.reference import fixture, images, relative_error, timm_weights

SIZE = dict(input_shape=(16, 16, 1), patch_size=4, width=24, depth=2, num_heads=3)
RUN = dict(epochs=2, learning_rate=1e-3, verbose=0)
# Two batches of 64 digits an epoch.
STEPS = 2


def encoder(**settings):
    keras.utils.set_random_seed(1)
    settings = {"include_top": False, "position_embedding": "sincos2d_mae", **SIZE, **settings}
    return keras_vit.ViT(**settings)


def digits():
    return dataclasses.replace(training.digits(16), steps_per_epoch=STEPS)


class TestTheAuthorsModel:
    @pytest.fixture(scope="class")
    def model(self):
        backbone = keras_vit.ViT_B16(include_top=False, position_embedding="sincos2d_mae")
        return training.masked_autoencoder(backbone, normalize_targets=False)

    @pytest.fixture(scope="class")
    def expected(self):
        return fixture("mae_vit_base_patch16")

    @pytest.fixture(scope="class")
    def noise(self, expected):
        random = np.random.RandomState(int(expected["noise_seed"]))
        return random.uniform(size=(2, 196)).astype("float32")

    def load(self, model, folder, scale=1.0):
        save_file(timm_weights("mae_vit_base_patch16", scale), folder / "mae.safetensors")
        report = keras_vit.load_weights(model, folder / "mae.safetensors")
        # The positions are fixed, and the file does not have them.
        assert set(report.left_as_it_was) == {"position_embedding/table", "decoder_position_embedding/table"}
        assert not report.unused

    def test_predictions_and_loss(self, model, expected, noise, tmp_path):
        outputs = keras.Model(model.inputs, [predictions_of(model).output, model.output])
        self.load(model, tmp_path)
        predictions, losses = map(np.asarray, outputs([images(224), noise], training=False))
        assert predictions.shape == tuple(expected["pred_shape"])
        assert relative_error(predictions[:, ::2, :8], expected["pred_every_second_first_eight"]) < 1e-4
        mean_std = predictions.mean(), predictions.std()
        np.testing.assert_allclose(mean_std, expected["pred_mean_std"], rtol=1e-4)
        assert losses.mean() == pytest.approx(float(expected["loss"]), rel=1e-5)
        config = {**model.get_layer("loss").get_config(), "normalize_targets": True}
        losses = type(model.get_layer("loss")).from_config(config)(predictions, images(224), noise)
        assert np.mean(losses) == pytest.approx(float(expected["loss_norm_pix"]), rel=1e-5)

    # With large weights, float32 itself is off by 1.2e-4.
    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "scale", "tolerance"), [("small", 1 / 32, 1e-4), ("large", 3.0, 1e-3)])
    def test_predictions_with_scaled_weights(self, model, expected, noise, tmp_path, name, scale, tolerance):
        self.load(model, tmp_path, scale)
        predictions = np.asarray(predictions_of(model)([images(224), noise], training=False))
        assert relative_error(predictions[:, ::2, :8], expected[f"pred_every_second_first_eight_{name}"]) < tolerance

    def test_masks_and_targets(self, model, expected, noise):
        loss = model.get_layer("loss")
        np.testing.assert_array_equal(loss.hidden(noise), expected["mask"])
        first = np.asarray(loss.targets(images(224)))
        found = [first.mean(), first.std(), *first[0, 0, :6]]
        np.testing.assert_allclose(found, expected["target_mean_std"], rtol=1e-4, atol=1e-6)
        normalized = type(loss).from_config({**loss.get_config(), "normalize_targets": True})
        first = np.asarray(normalized.targets(images(224)))
        found = [first.mean(), first.std(), *first[0, 0, :6]]
        np.testing.assert_allclose(found, expected["target_mean_std_norm_pix"], rtol=1e-4, atol=1e-6)

    def test_parameters(self, model, expected):
        # The authors' table of the encoder's positions has a row of zeros for the class token.
        assert sum(np.prod(variable.shape) for variable in model.weights) == int(expected["params"]) - 768
        assert sum(np.prod(variable.shape) for variable in model.trainable_weights) == 111_655_680


class TestMasking:
    noise = np.random.default_rng(0).random((3, 10)).astype("float32")

    def test_the_patches_with_the_smallest_numbers_are_visible(self):
        tokens = np.random.default_rng(1).normal(size=(3, 12, 4)).astype("float32")
        visible = np.asarray(VisibleTokens(3)(tokens, self.noise))
        for row in range(3):
            smallest = np.argsort(self.noise[row])[:3]
            expected = np.concatenate([tokens[row, :2], tokens[row, 2:][smallest]])
            np.testing.assert_array_equal(visible[row], expected)

    def test_filling_puts_the_patches_back(self):
        tokens = np.random.default_rng(1).normal(size=(3, 12, 4)).astype("float32")
        layer = FillHidden(2)
        filled = np.asarray(layer(VisibleTokens(3)(tokens, self.noise), self.noise))
        token = np.asarray(layer.token)[0, 0]
        for row in range(3):
            smallest = np.argsort(self.noise[row])[:3]
            expected = np.tile(token, (10, 1))
            expected[smallest] = tokens[row, 2:][smallest]
            np.testing.assert_array_equal(filled[row], np.concatenate([tokens[row, :2], expected]))

    def test_patches_are_in_the_order_of_rows_columns_channels(self):
        pixels = np.arange(2 * 6 * 8 * 3, dtype="float32").reshape(2, 6, 8, 3)
        patches = np.asarray(to_patches(pixels, (3, 2)))
        assert patches.shape == (2, 8, 18)
        np.testing.assert_array_equal(patches[1, 5], pixels[1, 3:6, 2:4].ravel())
        np.testing.assert_array_equal(to_images(patches, (6, 8), (3, 2)), pixels)

    @pytest.mark.parametrize("ratio", [0.0, 1.0, 0.99])
    def test_a_mask_that_hides_all_or_nothing_is_refused(self, ratio):
        with pytest.raises(ValueError, match="mask_ratio must leave at least one patch visible and one hidden"):
            training.masked_autoencoder(encoder(), mask_ratio=ratio)

    def test_a_classifier_is_refused(self):
        with pytest.raises(ValueError, match=r"returns all tokens, such as keras_vit\.ViT_S16"):
            training.masked_autoencoder(encoder(include_top=True))


def test_the_hidden_patches_do_not_reach_the_encoder():
    """The loss of an image depends on hidden pixels only through the targets, and not through the predictions."""
    model = training.masked_autoencoder(encoder(), mask_ratio=0.5)
    noise = np.random.default_rng(0).random((2, 16)).astype("float32")
    pixels = np.random.default_rng(1).normal(size=(2, 16, 16, 1)).astype("float32")
    patches = np.array(to_patches(pixels, (4, 4)))
    hidden = np.asarray(model.get_layer("loss").hidden(noise)) > 0
    patches[hidden] += 1.0
    changed = np.asarray(to_images(patches, (16, 16), (4, 4)))
    predictions = predictions_of(model)
    np.testing.assert_array_equal(predictions([pixels, noise]), predictions([changed, noise]))
    patches[~hidden] += 1.0
    changed = np.asarray(to_images(patches, (16, 16), (4, 4)))
    assert np.abs(predictions([pixels, noise]) - predictions([changed, noise])).max() > 1e-3


@pytest.mark.parametrize("settings", [{"position_embedding": "learned", "num_registers": 2}, {"class_token": False}])
def test_other_encoders_have_no_more_than_their_tokens(settings):
    backbone = encoder(**settings)
    model = training.masked_autoencoder(backbone)
    losses = model([np.ones((2, 16, 16, 1), "float32"), np.random.default_rng(0).random((2, 16))])
    assert losses.shape == (2, 1)
    own = {id(variable) for variable in model.variables}
    assert all(id(variable) in own for variable in backbone.variables)


class TestRuns:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("mae") / "run"
        backbone = encoder()
        result = training.pretrain(backbone, digits(), "mae", run_dir=folder, checkpoint_steps=1, **RUN)
        return backbone, result

    def test_the_folder_is_that_of_a_run_with_the_encoder_and_pictures(self, whole):
        backbone, result = whole
        folder = result.run_dir
        assert {"run.json", "log.csv", "best.keras", "checkpoint.safetensors"} <= {p.name for p in folder.iterdir()}
        pictures = sorted((folder / "reconstructions").iterdir())
        assert [path.name for path in pictures] == ["epoch_0001.png", "epoch_0002.png"]
        from PIL import Image

        with Image.open(pictures[0]) as picture:
            assert picture.size == (3 * 16, 8 * 16)
        loaded = keras.models.load_model(result.encoder)
        for saved, trained in zip(loaded.weights, backbone.weights, strict=True):
            np.testing.assert_array_equal(saved, trained)
        assert result.history[-1].keys() >= {"loss", "val_loss", "learning_rate"}
        notes = json.loads((folder / "run.json").read_text())
        assert notes["method"]["name"] == "MAE" and notes["method"]["mask_ratio"] == 0.75

    def test_the_saved_model_loads(self, whole):
        model = keras.models.load_model(whole[1].run_dir / "best.keras")
        losses = model([np.ones((2, 16, 16, 1), "float32"), np.random.default_rng(0).random((2, 16))])
        assert losses.shape == (2, 1)

    @pytest.mark.slow
    def test_a_resumed_run_equals_an_uninterrupted_one(self, whole, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 0 and int(self.model.optimizer.iterations) == STEPS + 1:
                    raise KeyboardInterrupt

        settings = dict(run_dir=tmp_path / "run", checkpoint_steps=1, **RUN)
        with pytest.raises(KeyboardInterrupt):
            training.pretrain(encoder(), digits(), "mae", callbacks=[Stop()], **settings)
        backbone = encoder()
        result = training.pretrain(backbone, digits(), "mae", resume=True, **settings)
        for resumed, expected in zip(backbone.weights, whole[0].weights, strict=True):
            np.testing.assert_array_equal(resumed, expected)
        assert result.history == whole[1].history

    def test_other_settings_are_not_resumed(self, whole):
        with pytest.raises(ValueError, match="mask_ratio"):
            method = training.MAE(mask_ratio=0.5)
            training.pretrain(encoder(), digits(), method, run_dir=whole[1].run_dir, resume=True, **RUN)

    def test_the_encoder_exports_in_one_partition(self, whole, tmp_path):
        trained, data = keras.models.load_model(whole[1].encoder), training.digits(16)
        file = tmp_path / "encoder.tflite"
        edge.export(trained, file, "hybrid_int8", calibration_data=data.validation)
        assert edge.audit(file).partitions == 1
        assert edge.verify(trained, file, data.for_model(trained).test_images).snr_db > 28

    def test_a_classifier_starts_from_the_encoder(self, whole):
        path = str(whole[1].encoder)
        settings = {**SIZE, "classes": 10, "pooling": "avg"}
        model = keras_vit.ViT(position_embedding="sincos2d_mae", **settings)
        report = keras_vit.load_weights(model, path, head=False)
        assert sorted(report.left_as_it_was) == ["head/bias", "head/kernel"]
        # As the authors fine-tune: the last norm is a new one and follows the pooling.
        model = keras_vit.ViT(position_embedding="sincos2d_mae", norm_after_pooling=True, **settings)
        report = keras_vit.load_weights(model, path, partial=True)
        assert {name.split("/")[0] for name in report.left_as_it_was} == {"head", "fc_norm"}
        kernel = model.get_layer("block_1").mlp.expand.kernel
        np.testing.assert_array_equal(kernel, whole[0].get_layer("block_1").mlp.expand.kernel)


def test_workers_draw_the_masks_of_a_single_one():
    import tensorflow as tf

    data = with_noise(training.digits(16).for_model(encoder()), 16, seed=3)
    whole = [np.asarray(noise) for (_, noise), _ in data.train(1, 2).take(2)]
    parts = [
        [np.asarray(noise) for (_, noise), _ in data.train(1, 2, tf.distribute.InputContext(2, worker, 2)).take(2)]
        for worker in range(2)
    ]
    for step, noise in enumerate(whole):
        np.testing.assert_array_equal(noise[0::2], parts[0][step])
        np.testing.assert_array_equal(noise[1::2], parts[1][step])
    (_, skipped), _ = data.train(1, 3).take(1).get_single_element()
    np.testing.assert_array_equal(skipped, whole[1])
    (_, other), _ = data.train(2, 3).take(1).get_single_element()
    assert np.abs(other - skipped).max() > 0.1


def test_a_picture_shows_visible_pixels_as_they_are():
    model = training.masked_autoencoder(encoder())
    statistics = keras_vit.Statistics(0.5, 0.5)
    scale, offset = (values[0] for values in statistics.scale_and_offset(1))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1))
    noise = np.random.default_rng(1).random((2, 16)).astype("float32")
    picture = reconstruction_picture(model, (pixels * scale + offset).astype("float32"), noise)
    assert picture.shape == (32, 48, 3) and picture.dtype == np.uint8
    shown = picture[..., 0].reshape(2, 16, 48)
    np.testing.assert_array_equal(shown[:, :, 32:], pixels[..., 0])
    hidden = np.asarray(model.get_layer("loss").hidden(noise)).reshape(2, 4, 4).repeat(4, axis=1).repeat(4, axis=2) > 0
    np.testing.assert_array_equal(shown[:, :, :16], np.where(hidden, 128, pixels[..., 0]))
    np.testing.assert_array_equal(shown[:, :, 16:32][~hidden], pixels[..., 0][~hidden])
