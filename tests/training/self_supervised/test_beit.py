"""BEiT: the authors' outputs, block-wise masks, codes from files and from a tokenizer of our own, training runs."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import keras_vit
from keras_vit import training
from keras_vit.training.self_supervised.beit import scores_of
from keras_vit.training.self_supervised.block_masks import BLOCKS, NUMBERS, hidden_patches
from keras_vit.training.self_supervised.patches import to_images, to_patches
from keras_vit.training.self_supervised.tokenizer import (
    RelaxedCodes,
    TemperatureSchedule,
    TokenizerLoss,
    uniform_numbers,
)
from tests.reference import fixture, images, relative_error, timm_weights

SIZE = dict(input_shape=(16, 16, 1), patch_size=4, width=24, depth=2, num_heads=3)
RUN = dict(epochs=2, learning_rate=1e-3, verbose=0)
# Two batches of 64 digits an epoch.
STEPS = 2
AUTHORS = "beit_base_patch16_224_8k_vocab"


def encoder(**settings):
    keras.utils.set_random_seed(1)
    return keras_vit.BEiT(**{"include_top": False, "shared_positions": True, **SIZE, **settings})


def digits():
    return dataclasses.replace(training.digits(16), steps_per_epoch=STEPS)


@pytest.mark.slow
class TestTheAuthorsModel:
    @pytest.fixture(scope="class")
    def model(self):
        return training.masked_image_model(keras_vit.BEiT_B16(include_top=False, shared_positions=True))

    @pytest.fixture(scope="class")
    def expected(self):
        return fixture(AUTHORS)

    @pytest.fixture(scope="class")
    def inputs(self, expected):
        hidden = np.stack([np.flatnonzero(mask) for mask in expected["mask"]])
        codes = np.zeros((2, 196), "int32")
        np.put_along_axis(codes, hidden, expected["labels"].reshape(2, 75), axis=1)
        return [images(224), codes, hidden.astype("int32")]

    def load(self, model, folder, scale=1.0):
        save_file(timm_weights(AUTHORS, scale), folder / "beit.safetensors")
        report = keras_vit.load_weights(model, folder / "beit.safetensors")
        assert not report.left_as_it_was and not report.unused

    def test_scores_and_loss(self, model, expected, inputs, tmp_path):
        self.load(model, tmp_path)
        outputs = keras.Model(model.inputs, [scores_of(model).output, model.output])
        scores, losses = map(np.asarray, outputs(inputs, training=False))
        scores = scores.reshape(expected["logits_shape"])
        assert relative_error(scores[:, :16], expected["logits_first_sixteen"]) < 1e-4
        np.testing.assert_array_equal(scores.argmax(axis=1), expected["logits_argmax"])
        sums = np.log(np.exp(scores.astype("float64")).sum(axis=1))
        np.testing.assert_allclose(sums, expected["logits_logsumexp"], rtol=1e-5)
        assert losses.mean() == pytest.approx(float(expected["loss"]), rel=1e-5)
        assert sum(np.prod(v.shape) for v in model.trainable_weights) == int(expected["params"])

    # With large weights, float32 itself is off by 7e-5.
    @pytest.mark.parametrize(("name", "scale", "tolerance"), [("small", 1 / 32, 1e-4), ("large", 3.0, 1e-3)])
    def test_scores_with_scaled_weights(self, model, expected, inputs, tmp_path, name, scale, tolerance):
        self.load(model, tmp_path, scale)
        scores = np.asarray(scores_of(model)(inputs, training=False)).reshape(expected["logits_shape"])
        assert relative_error(scores[:, :16], expected[f"logits_first_sixteen_{name}"]) < tolerance


class TestBlockMasks:
    numbers = np.random.default_rng(0).random((300, NUMBERS)).astype("float32")

    def blocks(self, numbers, grid, count, smallest, aspect=0.3):
        """Return the hidden patches of an image and its blocks (height, width, new patches), by the paper's rule."""
        mask, blocks = np.zeros(grid, bool), []
        for area, ratio, top, left in numbers.reshape(-1, 4).astype("float64"):
            missing = count - mask.sum()
            if not missing:
                break
            area = smallest + (missing - smallest) * area
            ratio = math.exp(math.log(aspect) * (1 - 2 * ratio))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < grid[0] and width < grid[1]:
                top, left = int(top * (grid[0] - height + 1)), int(left * (grid[1] - width + 1))
                places = np.ndindex(height, width)
                new = [(top + r, left + c) for r, c in places if not mask[top + r, left + c]][:missing]
                for place in new:
                    mask[place] = True
                blocks.append((height, width, len(new)))
        return np.flatnonzero(mask), blocks

    @pytest.mark.parametrize(
        ("grid", "count", "smallest"), [((14, 14), 75, 16), ((4, 4), 6, 3), ((8, 5), 16, 4)], ids=["14", "4", "8x5"]
    )
    def test_the_hidden_patches_are_those_of_the_algorithm(self, grid, count, smallest):
        found = np.asarray(hidden_patches(tf.constant(self.numbers), grid, count, smallest))
        assert found.shape == (300, count)
        for image, numbers in zip(found, self.numbers, strict=True):
            expected, blocks = self.blocks(numbers, grid, count, smallest)
            np.testing.assert_array_equal(image, expected)
            assert len(blocks) < BLOCKS

    def test_blocks_have_the_sizes_of_the_paper(self):
        blocks = [block for numbers in self.numbers for block in self.blocks(numbers, (14, 14), 75, 16)[1]]
        first = [self.blocks(numbers, (14, 14), 75, 16)[1][0] for numbers in self.numbers]
        areas = np.array([height * width for height, width, _ in first])
        # The sides are rounded.
        assert areas.min() >= 12 and 60 < areas.max() <= 86
        ratios = np.array([height / width for height, width, _ in blocks])
        assert 0.2 < ratios.min() < 0.35 and 2.9 < ratios.max() < 5
        assert abs(np.mean(np.log(ratios))) < 0.1  # High blocks are as frequent as wide ones.
        hidden = np.asarray(hidden_patches(tf.constant(self.numbers), (14, 14), 75))
        frequency = np.bincount(hidden.ravel(), minlength=196) / len(hidden)
        # Blocks cover the middle more often than the border, and all sides equally.
        assert frequency.min() > 0 and frequency.max() < 0.85
        by_row = frequency.reshape(14, 14).mean(axis=1)
        np.testing.assert_allclose(by_row, by_row[::-1], atol=0.08)
        np.testing.assert_allclose(by_row, frequency.reshape(14, 14).mean(axis=0), atol=0.08)

    def test_hidden_patches_are_close_together(self):
        """Far more neighbors of hidden patches are hidden than if patches were hidden independently, 38 %."""
        mask = np.zeros((300, 14, 14), bool)
        np.put_along_axis(
            mask.reshape(300, 196), np.asarray(hidden_patches(tf.constant(self.numbers), (14, 14), 75)), True, 1
        )
        both = (mask[:, 1:] & mask[:, :-1]).sum() / mask[:, :-1].sum()
        assert both > 0.7

    def test_other_numbers_than_the_own_ones_do_not_matter(self):
        whole = np.asarray(hidden_patches(tf.constant(self.numbers[:6]), (14, 14), 75))
        parts = [
            np.asarray(hidden_patches(tf.constant(self.numbers[place : place + 1]), (14, 14), 75)) for place in range(6)
        ]
        np.testing.assert_array_equal(whole, np.concatenate(parts))


class TestTheModel:
    hidden = np.array([[0, 5, 6, 7, 13, 15], [1, 2, 3, 8, 9, 10]], "int32")
    codes = np.random.default_rng(0).integers(0, 20, (2, 16)).astype("int32")
    pixels = np.random.default_rng(1).normal(size=(2, 16, 16, 1)).astype("float32")

    def test_hidden_pixels_do_not_matter(self):
        model = training.masked_image_model(encoder(), vocabulary=20)
        patches = np.array(to_patches(self.pixels, (4, 4)))
        for image, places in zip(patches, self.hidden, strict=True):
            image[places] += 1.0
        changed = np.asarray(to_images(patches, (16, 16), (4, 4)))
        scores = scores_of(model)
        before, after = (np.asarray(scores([x, self.codes, self.hidden])) for x in (self.pixels, changed))
        assert before.shape == (2, 6, 20)
        np.testing.assert_array_equal(before, after)
        assert np.abs(before - np.asarray(scores([self.pixels + 1, self.codes, self.hidden]))).max() > 1e-4

    def test_the_loss_is_the_cross_entropy_of_the_hidden_codes(self):
        model = training.masked_image_model(encoder(), vocabulary=20)
        scores = np.asarray(scores_of(model)([self.pixels, self.codes, self.hidden])).astype("float64")
        logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        expected = [
            -np.mean([logs[image, place, self.codes[image, patch]] for place, patch in enumerate(self.hidden[image])])
            for image in range(2)
        ]
        found = np.asarray(model([self.pixels, self.codes, self.hidden]))
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)

    def test_a_tokenizer_sees_the_whole_image_as_it_takes_it(self):
        keras.utils.set_random_seed(2)
        statistics = keras_vit.Statistics(0.1, 0.3)
        tokenizer = training.image_tokenizer(
            (16, 16, 1), patch_size=4, vocabulary=20, width=8, depth=1, statistics=statistics
        )
        with_tokenizer = training.masked_image_model(encoder(), tokenizer)
        plain = training.masked_image_model(encoder(), vocabulary=20)
        plain.get_layer("mask_token").set_weights(with_tokenizer.get_layer("mask_token").get_weights())
        plain.get_layer("code_head").set_weights(with_tokenizer.get_layer("code_head").get_weights())
        as_pixels = 0.5 * self.pixels + 0.5  # The encoder's statistics are 0.5 and 0.5.
        codes = np.asarray(tokenizer((as_pixels - 0.1) / 0.3)).argmax(axis=-1).astype("int32")
        assert len(np.unique(codes)) > 1
        expected = np.asarray(plain([self.pixels, codes, self.hidden]))
        np.testing.assert_allclose(with_tokenizer([self.pixels, self.hidden]), expected, rtol=1e-5)
        assert not with_tokenizer.get_layer("tokenizer").trainable_variables

    @pytest.mark.parametrize(
        ("backbone", "message"),
        [
            (lambda: encoder(include_top=True), r"returns all tokens, such as keras_vit\.BEiT_B16"),
            (lambda: keras_vit.ViT(include_top=False, **SIZE), "of the BEiT family"),
        ],
    )
    def test_other_encoders_are_refused(self, backbone, message):
        with pytest.raises(ValueError, match=message):
            training.masked_image_model(backbone())

    def test_other_settings_are_refused(self):
        with pytest.raises(ValueError, match="mask_ratio must leave"):
            training.masked_image_model(encoder(), mask_ratio=1.0)
        tokenizer = training.image_tokenizer((16, 16, 1), patch_size=8, vocabulary=5, width=8, depth=1)
        with pytest.raises(ValueError, match=r"scores \(16, codes\)"):
            training.masked_image_model(encoder(), tokenizer)


def test_blocks_share_a_table_until_the_model_is_saved(tmp_path):
    model = encoder()
    tables = [model.get_layer(f"block_{index}").attention.bias.table for index in range(2)]
    assert tables[0] is tables[1]
    assert len(encoder(shared_positions=False).weights) == len(model.weights) + 1
    tables[0].assign(keras.random.normal(tables[0].shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for index in range(2):
        np.testing.assert_array_equal(loaded.get_layer(f"block_{index}").attention.bias.table, tables[0])
    first, second = (loaded.get_layer(f"block_{index}").attention.bias.table for index in range(2))
    assert first is not second
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    pixels = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32")
    np.testing.assert_allclose(loaded(pixels), model(pixels), atol=1e-6)


class TestTheTokenizer:
    def test_numbers_look_uniform_and_independent(self):
        seeds = np.random.default_rng(0).random((50, 1)).astype("float32")
        numbers = np.asarray(uniform_numbers(seeds, 4000)).astype("float64")
        assert numbers.min() > 0 and numbers.max() < 1
        frequencies = np.histogram(numbers, bins=20, range=(0, 1))[0] / numbers.size
        np.testing.assert_allclose(frequencies, 0.05, atol=0.002)
        centered = numbers - 0.5
        for left, right in (
            (centered[:, 1:], centered[:, :-1]),
            (centered[:, 7:], centered[:, :-7]),
            (centered[1:], centered[:-1]),
        ):
            assert abs(np.mean(left * right)) * 12 < 0.01
        np.testing.assert_array_equal(uniform_numbers(seeds[3:4], 4000)[0], np.asarray(uniform_numbers(seeds, 4000))[3])

    def test_codes_are_drawn_with_their_probabilities(self):
        """By the Gumbel-max trick, the largest noisy score is a draw from the softmax of the scores."""
        scores = np.broadcast_to(np.log([0.5, 0.3, 0.15, 0.05]).astype("float32"), (200, 20, 4))
        noise = np.random.default_rng(0).random((200, 1)).astype("float32")
        layer = RelaxedCodes()
        relaxed = np.asarray(layer(scores, noise, training=True))
        np.testing.assert_allclose(relaxed.sum(axis=-1), 1, atol=1e-5)
        frequencies = np.bincount(relaxed.argmax(axis=-1).ravel(), minlength=4) / 4000
        np.testing.assert_allclose(frequencies, [0.5, 0.3, 0.15, 0.05], atol=0.03)
        layer.temperature.assign(1 / 16)
        colder = np.asarray(layer(scores, noise, training=True))
        np.testing.assert_array_equal(colder.argmax(axis=-1), relaxed.argmax(axis=-1))
        assert colder.max(axis=-1).mean() > 0.9 > relaxed.max(axis=-1).mean()
        np.testing.assert_array_equal(layer(scores, noise, training=False), np.eye(4)[np.zeros((200, 20), int)])

    def test_the_loss(self):
        random = np.random.default_rng(0)
        pixels, scores = random.normal(size=(2, 2, 2, 16)), random.normal(size=(2, 4, 5))
        pictures = random.normal(size=(2, 8, 8, 1))
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        divergence = (probabilities * np.log(probabilities / (1 / 5))).sum(axis=-1).mean(axis=1)
        patches = pictures.reshape(2, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(2, 2, 2, 16)
        expected = np.mean((pixels - patches) ** 2, axis=(1, 2, 3)) + 0.5 * divergence
        found = np.asarray(TokenizerLoss((4, 4), 0.5)(*(x.astype("float32") for x in (pixels, pictures, scores))))
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)

    def test_the_temperature_falls_by_the_same_factor(self):
        schedule = TemperatureSchedule(1 / 16)
        np.testing.assert_allclose([schedule.temperature(e, 5) for e in range(5)], [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16])
        assert schedule.temperature(0, 1) == 1


@pytest.mark.slow
class TestRuns:
    @pytest.fixture(scope="class")
    def tokenizer(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("tokenizer") / "run"
        method = training.Tokenizer(vocabulary=12, width=8, depth=1)
        return training.pretrain(encoder(), digits(), method, run_dir=folder, **RUN)

    @pytest.fixture(scope="class")
    def whole(self, tokenizer, tmp_path_factory):
        folder = tmp_path_factory.mktemp("beit") / "run"
        backbone = encoder()
        method = training.BEiT(tokenizer=str(tokenizer.encoder), smallest_block=3)
        return (
            backbone,
            method,
            training.pretrain(backbone, digits(), method, run_dir=folder, checkpoint_steps=1, **RUN),
        )

    def test_the_tokenizer_gives_codes(self, tokenizer):
        model = keras.models.load_model(tokenizer.encoder)
        assert model.input_shape == (None, 16, 16, 1) and model.output_shape == (None, 16, 12)
        assert tokenizer.history[-1].keys() >= {"loss", "val_loss"}

    def test_the_encoder_is_saved_with_a_table_in_each_block(self, whole):
        backbone, _, result = whole
        loaded = keras.models.load_model(result.encoder)
        pixels = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32")
        np.testing.assert_allclose(loaded(pixels), backbone(pixels), atol=1e-6)
        table = np.asarray(loaded.get_layer("block_1").attention.bias.table)
        assert np.abs(table).max() > 0
        np.testing.assert_array_equal(table, loaded.get_layer("block_0").attention.bias.table)
        assert len(loaded.trainable_variables) == len(loaded.variables) == len(backbone.variables) + 1
        notes = json.loads((result.run_dir / "run.json").read_text())
        assert notes["method"]["name"] == "BEiT" and len(notes["settings"]["data"]["tokenizer"]) == 16
        model = keras.models.load_model(result.run_dir / "best.keras")
        losses = model([np.ones((2, 16, 16, 1), "float32"), np.tile(np.arange(6), (2, 1))])
        assert losses.shape == (2, 1)

    def test_a_classifier_starts_from_the_encoder(self, whole):
        model = keras_vit.BEiT(classes=10, **SIZE)
        report = keras_vit.load_weights(model, whole[2].encoder, partial=True)
        assert {name.split("/")[0] for name in report.left_as_it_was} == {"head", "fc_norm"} and not report.unused

    def test_a_resumed_run_equals_an_uninterrupted_one(self, whole, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 0 and int(self.model.optimizer.iterations) == STEPS + 1:
                    raise KeyboardInterrupt

        settings = dict(run_dir=tmp_path / "run", checkpoint_steps=1, **RUN)
        with pytest.raises(KeyboardInterrupt):
            training.pretrain(encoder(), digits(), whole[1], callbacks=[Stop()], **settings)
        backbone = encoder()
        result = training.pretrain(backbone, digits(), whole[1], resume=True, **settings)
        for resumed, expected in zip(backbone.weights, whole[0].weights, strict=True):
            np.testing.assert_array_equal(resumed, expected)
        assert result.history == whole[2].history


def test_codes_are_needed_once(tmp_path):
    with pytest.raises(ValueError, match="either from a tokenizer"):
        training.pretrain(encoder(), digits(), "beit", run_dir=tmp_path / "run", **RUN)


class TestCodesFromAFile:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1)).astype("uint8")
    codes = np.random.default_rng(1).integers(0, 20, (12, 4, 4)).astype("int16")

    def data(self, path, **settings):
        labels = np.arange(12) % 2
        settings = {"augmentation": None, "batch_size": 4, "evaluation": training.CenterCrop(1.0), **settings}
        return training.arrays(
            self.pixels, labels, validation=(self.pixels[:2], labels[:2]), codes=str(path), channels=1, **settings
        )

    def test_each_image_has_its_codes(self, tmp_path):
        np.save(tmp_path / "codes.npy", self.codes)
        names = [f"image {index}" for index in range(12)]
        np.savez(tmp_path / "codes.npz", codes=self.codes[::-1], names=names[::-1])
        for file in ("codes.npy", "codes.npz"):
            seen = 0
            data = self.data(tmp_path / file, statistics=None)
            for (pictures, codes), labels in data.train(3):
                for picture, own, label in zip(pictures.numpy(), codes.numpy(), labels.numpy(), strict=True):
                    (index,) = np.flatnonzero((self.pixels == picture).all(axis=(1, 2, 3)))
                    np.testing.assert_array_equal(own, self.codes[index].ravel())
                    assert label.argmax() == index % 2
                    seen += 1
            assert seen == 12

    def test_what_does_not_fit_is_refused(self, tmp_path):
        path = tmp_path / "codes.npy"
        np.save(path, self.codes[:11])
        with pytest.raises(ValueError, match="codes of 11 images, but there are 12 training images"):
            self.data(path)
        np.save(path, self.codes.astype("float32"))
        with pytest.raises(ValueError, match="must have integers of at least 0"):
            self.data(path)
        np.save(path, self.codes)
        for augmentation in (training.Augmentation(), training.Augmentation(training.CenterCrop())):
            with pytest.raises(ValueError, match="random crops, flips"):
                self.data(path, augmentation=augmentation)
        np.savez(tmp_path / "codes.npz", codes=self.codes, names=[f"image {index}" for index in range(1, 13)])
        with pytest.raises(ValueError, match="1 images are missing, such as 'image 0'"):
            self.data(tmp_path / "codes.npz")

    @pytest.mark.slow
    def test_an_encoder_learns_them(self, tmp_path):
        path = tmp_path / "codes.npy"
        np.save(path, self.codes)
        method = training.BEiT(vocabulary=20, smallest_block=3)
        result = training.pretrain(encoder(depth=1), self.data(path), method, run_dir=tmp_path / "run", **RUN)
        assert result.history[0]["loss"] == pytest.approx(math.log(20), rel=0.1)

    def test_codes_outside_of_the_vocabulary_are_refused(self, tmp_path):
        np.save(tmp_path / "codes.npy", self.codes)
        method = training.BEiT(vocabulary=int(self.codes.max()), smallest_block=3)
        with pytest.raises(ValueError, match="vocabulary must be more"):
            training.pretrain(encoder(), self.data(tmp_path / "codes.npy"), method, run_dir=tmp_path / "run", **RUN)
