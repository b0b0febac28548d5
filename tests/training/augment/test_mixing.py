import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_vit.training.augment.erasing import erase
from keras_vit.training.augment.mixing import cutmix, mix, mixup

BATCH, SIZE = 6, 32
IMAGES = np.random.default_rng(0).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype("float32")
LABELS = np.eye(BATCH, dtype="float32")
BATCHES = tf.constant(IMAGES), tf.constant(LABELS)
REVERSED = IMAGES[::-1]


def seeds(count):
    return [tf.constant([7, number], tf.int64) for number in range(count)]


def test_mixup_returns_weighted_means_of_images_and_labels():
    mixing = tf.function(mixup)
    shares = []
    for seed in seeds(300):
        images, labels = (part.numpy() for part in mixing(*BATCHES, seed, 0.8))
        share = labels[0, 0]
        np.testing.assert_allclose(labels, share * LABELS + (1 - share) * LABELS[::-1], atol=1e-6)
        np.testing.assert_allclose(images, share * IMAGES + (1 - share) * REVERSED, atol=1e-2)
        shares.append(share)
    assert stats.kstest(shares, stats.beta(0.8, 0.8).cdf).pvalue > 0.01
    assert stats.kstest(shares, stats.beta(0.3, 0.3).cdf).pvalue < 0.01  # The check can fail.


def test_mixup_weights_are_finite_for_a_small_alpha():
    mixing = tf.function(mixup)
    shares = np.array([mixing(*BATCHES, seed, 0.01)[1][0, 0] for seed in seeds(100)])
    assert np.isfinite(shares).all() and ((shares < 0.01) | (shares > 0.99)).mean() > 0.9


def test_cutmix_pastes_a_box_and_weights_labels_by_area():
    mixing = tf.function(cutmix)
    areas, middles = [], []
    for seed in seeds(300):
        images, labels = (part.numpy() for part in mixing(*BATCHES, seed, 1.0))
        other = (images == REVERSED).all(axis=(0, 3))
        own = (images == IMAGES).all(axis=(0, 3))
        assert (other ^ own).all()
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        assert other.sum() == len(rows) * len(columns)  # It is a box.
        kept = 1 - other.mean()
        np.testing.assert_allclose(labels, kept * LABELS + (1 - kept) * LABELS[::-1], atol=1e-6)
        areas.append(1 - kept)
        middles.extend(rows)
    # With alpha 1, the area u of a box is uniform before clipping. Of its side r = sqrt(u), r - r ** 2 / 4 remains on
    # average, so the mean area is the integral of (r - r ** 2 / 4) ** 2 = u - u ** 1.5 / 2 + u ** 2 / 16: 0.32.
    assert np.mean(areas) == pytest.approx(0.32, abs=0.03) and max(areas) > 0.75
    assert 14 < np.mean(middles) < 17


def test_mix_chooses_mixup_or_cutmix_with_the_given_probabilities():
    def kinds(**settings):
        mixing = tf.function(lambda seed: mix(*BATCHES, seed, **settings))
        counts = {"none": 0, "mixup": 0, "cutmix": 0}
        for seed in seeds(200):
            images, labels = (part.numpy() for part in mixing(seed))
            np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
            own = (images == IMAGES).mean()
            counts["none" if own == 1 else "mixup" if own < 0.01 else "cutmix"] += 1
        return counts

    both = kinds(mixup_alpha=0.8, cutmix_alpha=1.0)
    assert 70 < both["mixup"] < 130 and both["none"] < 5
    assert kinds(mixup_alpha=0.8, cutmix_alpha=0.0)["mixup"] == 200
    assert kinds(mixup_alpha=0.0, cutmix_alpha=1.0)["mixup"] == 0
    rare = kinds(mixup_alpha=0.8, cutmix_alpha=1.0, probability=0.25, switch_probability=0.0)
    assert 120 < rare["none"] < 180 and rare["cutmix"] == 0


def test_erasing_fills_a_box_with_noise():
    images = np.full((600, 64, 48, 3), 1e4, "float32")
    numbers = np.stack([np.full(600, 3), np.arange(600)], axis=1)
    result = tf.function(erase)(tf.constant(images), tf.constant(numbers)).numpy()
    erased = (result != 1e4).all(axis=-1)
    assert ((result != 1e4).any(axis=-1) == erased).all()
    rows, columns = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(erased.sum(axis=(1, 2)), rows * columns)
    areas, ratios = rows * columns / (64 * 48), rows / columns
    assert 0.015 < areas.min() < 0.03 and 0.32 < areas.max() < 0.345
    counts, _ = np.histogram(areas, bins=4, range=(0.02, 1 / 3))
    assert counts.min() > 100  # A uniform distribution has 150 per bin.
    assert ratios.min() > 0.25 and ratios.max() < 4 and np.mean(np.log(ratios)) == pytest.approx(0, abs=0.1)
    # After normalization by the ImageNet statistics, the noise is standard normal.
    noise = (result[erased] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.01)
    # Boxes reach every position.
    assert erased.any(axis=0).mean() > 0.99


def test_erasing_depends_only_on_the_seed_of_the_image():
    numbers = np.stack([np.full(BATCH, 3), np.arange(BATCH)], axis=1)
    result = erase(tf.constant(IMAGES), tf.constant(numbers)).numpy()
    np.testing.assert_array_equal(erase(tf.constant(IMAGES[2:4]), tf.constant(numbers[2:4])), result[2:4])
    assert not np.array_equal(erase(tf.constant(IMAGES[2:4]), tf.constant(numbers[3:5])), result[2:4])
