"""Test which operations a policy applies, how often and how strongly; test_pixels.py tests the operations."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_vit import training
from keras_vit.training.augment import pixels, policies
from keras_vit.training.augment.draws import Draws, numbers_of
from tests.training.pictures import picture

MANY = 6000
NUMBERS = tf.random.stateless_uniform([MANY, 64], [1, 2])


@pytest.fixture
def applied(monkeypatch):
    """Return a function that runs a policy and lists the operations applied to each image, with their strengths."""

    def run(policy, count=MANY, numbers=None):
        met = [[] for _ in range(count)]

        def operation(name):
            def note(images, strengths=None):
                for place, number in enumerate(images[:, 0, 0, 0].numpy()):
                    met[number].append((name, None if strengths is None else float(strengths[place])))
                return images

            return note

        for table in ("_INCREASING", "_ORIGINAL", "_AUTO"):
            noted = {name: (operation(name), strength) for name, (_, strength) in getattr(policies, table).items()}
            monkeypatch.setattr(policies, table, noted)
        for name in ("gray", "solarize", "blur", "brightness", "contrast", "color", "hue"):
            monkeypatch.setattr(policies.pixels, name, operation(name))
        images = tf.reshape(tf.range(count), (count, 1, 1, 1))
        policy(images, Draws(NUMBERS[:count] if numbers is None else numbers))
        return met

    return run


def strengths_of(met, name):
    return np.array([strength for operations in met for kind, strength in operations if kind == name])


def test_rand_augment_draws_two_of_fifteen_operations_and_applies_each_with_probability_one_half(applied):
    met = applied(training.RandAugment())
    counts = np.bincount([len(operations) for operations in met], minlength=3)
    np.testing.assert_allclose(counts / MANY, [0.25, 0.5, 0.25], atol=0.03)
    names = [name for operations in met for name, _ in operations]
    shares = {name: names.count(name) / len(names) for name in set(names)}
    assert len(shares) == 15
    assert all(share == pytest.approx(1 / 15, rel=0.25) for share in shares.values())


def test_rand_augment_strengths_at_magnitude_9(applied):
    met = applied(training.RandAugment(magnitude_std=0.0))
    expected = {
        "Rotate": {-27.0, 27.0},
        "ShearX": {-0.27, 0.27},
        "ShearY": {-0.27, 0.27},
        "TranslateX": {-0.405, 0.405},
        "TranslateY": {-0.405, 0.405},
        "Posterize": {1.0},
        "Solarize": {26.0},
        "SolarizeAdd": {99.0},
        "Color": {0.19, 1.81},
        "Contrast": {0.19, 1.81},
        "Brightness": {0.19, 1.81},
        "Sharpness": {0.19, 1.81},
    }
    for name, strengths in expected.items():
        found = strengths_of(met, name)
        assert {round(strength, 3) for strength in found} == strengths
        if len(strengths) == 2:
            assert (found > found.mean()).mean() == pytest.approx(0.5, abs=0.1)


def test_rand_augment_strengths_without_increasing(applied):
    met = applied(training.RandAugment(magnitude=5, magnitude_std=0.0, increasing=False))
    expected = {"Posterize": 2, "Solarize": 128, "Color": 1.0, "Sharpness": 1.0, "SolarizeAdd": 55}
    for name, strength in expected.items():
        np.testing.assert_allclose(strengths_of(met, name), strength, atol=1e-5)


def test_rand_augment_magnitude_is_normal_and_clipped(applied):
    met = applied(training.RandAugment(magnitude=9, magnitude_std=0.5))
    magnitudes = np.abs(strengths_of(met, "Rotate")) / 3
    below = magnitudes[magnitudes < 10 - 1e-4]
    assert magnitudes.max() == pytest.approx(10, abs=1e-5)
    assert len(below) / len(magnitudes) == pytest.approx(0.977, abs=0.02)  # Two standard deviations.
    assert np.median(magnitudes) == pytest.approx(9, abs=0.1) and below.std() == pytest.approx(0.47, abs=0.07)


def test_auto_augment_applies_only_its_pairs_of_operations(applied):
    met = applied(training.AutoAugment())
    rows = [(row[0:3], row[3:6]) for row in policies._SUBPOLICIES]
    allowed = {tuple(name for name, _, _ in row) for row in rows}
    allowed |= {(name,) for row in rows for name, _, _ in row} | {()}
    assert {tuple(name for name, _ in operations) for operations in met} <= allowed
    # The expected frequency of an operation is the sum of its probabilities over the 25 pairs, divided by 25.
    for name in ("Equalize", "Rotate", "Invert"):
        expected = sum(chance for row in rows for kind, chance, _ in row if kind == name) / 25
        count = sum(kind == name for operations in met for kind, _ in operations)
        assert count / MANY == pytest.approx(expected, rel=0.12)
    assert set(strengths_of(met, "Posterize")) == {6.0, 7.0}
    np.testing.assert_allclose(sorted(set(np.abs(strengths_of(met, "Rotate")))), [9, 24, 27], atol=1e-4)


def test_three_augment_applies_one_of_three_operations(applied):
    met = applied(training.ThreeAugment())
    assert {len(operations) for operations in met} == {1}
    for name in ("gray", "solarize", "blur"):
        assert sum(operations[0][0] == name for operations in met) / MANY == pytest.approx(1 / 3, abs=0.03)
    sigmas = strengths_of(met, "blur")
    assert 0.1 <= sigmas.min() < 0.12 and 1.98 < sigmas.max() < 2 and sigmas.mean() == pytest.approx(1.05, abs=0.05)
    assert set(strengths_of(met, "solarize")) == {128.0}


def test_color_jitter_applies_all_changes_in_random_order(applied):
    met = applied(training.ColorJitter(0.4, 0.3, 0.2, 0.1, probability=0.8))
    used = [operations for operations in met if operations]
    assert len(used) / MANY == pytest.approx(0.8, abs=0.02)
    orders = [tuple(name for name, _ in operations) for operations in used]
    assert all(sorted(order) == ["brightness", "color", "contrast", "hue"] for order in orders)
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24 and min(counts) > 0.6 * np.mean(counts)
    for name, center, reach in (("brightness", 1, 0.4), ("contrast", 1, 0.3), ("color", 1, 0.2), ("hue", 0, 0.1)):
        found = strengths_of(met, name) - center
        assert np.abs(found).max() <= reach + 1e-6 and np.abs(found).max() > 0.95 * reach
        assert found.mean() == pytest.approx(0, abs=0.05 * reach)


POLICIES = [
    training.RandAugment(),
    training.RandAugment(increasing=False, magnitude=5),
    training.AutoAugment(),
    training.ThreeAugment(),
    training.ColorJitter(0.4, 0.4, 0.4, 0.1),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_result_depends_only_on_the_image_and_its_numbers(policy):
    images = tf.constant(np.stack([picture(seed) for seed in range(32)]))

    def run(images, numbers):
        return policy(images, Draws(numbers))

    result = run(images, NUMBERS[:32])
    assert result.dtype == tf.uint8 and result.shape == images.shape
    assert (result.numpy() != images.numpy()).any(axis=(1, 2, 3)).sum() > 12
    order = [5, 31, 0, 17]
    some = run(tf.gather(images, order), tf.gather(NUMBERS[:32], order))
    np.testing.assert_array_equal(some, tf.gather(result, order))
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(run(images, NUMBERS[1:33]), result)


def test_operations_run_in_a_process_that_starts_in_deterministic_mode():
    # Runs in a separate process, since the keras-cv layers are created only once per process.
    script = """
import numpy as np, tensorflow as tf
tf.config.experimental.enable_op_determinism()
from keras_vit.training.augment.pixels import autocontrast
image = autocontrast(tf.constant(np.arange(10, 22).reshape(1, 2, 2, 3), tf.uint8)).numpy()
assert image.min() == 0 and image.max() == 255
try:
    tf.random.get_global_generator()
except RuntimeError:
    print("as before")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.endswith("as before\n"), result.stderr[-2000:]


def test_augmentation_applies_its_parts():
    images = tf.constant(np.stack([picture(seed, 32, 32) for seed in range(64)]))
    seeds = tf.constant([[4, number] for number in range(64)], tf.int64)
    numbers = tf.stack([numbers_of(seed) for seed in seeds])

    def result(**settings):
        return training.Augmentation(**settings).of_images(images, numbers, seeds).numpy()

    plain = images.numpy().astype("float32")
    np.testing.assert_array_equal(result(flip=0.0), plain)
    np.testing.assert_array_equal(result(flip=1.0), plain[:, :, ::-1])
    flipped = (result(flip=0.5) != plain).any(axis=(1, 2, 3))
    assert 20 < flipped.sum() < 44
    np.testing.assert_array_equal(result(flip=0.0, gray=1.0), pixels.gray(images))
    threshold = tf.fill([64], 128.0)
    np.testing.assert_array_equal(result(flip=0.0, solarize=1.0), pixels.solarize(images, threshold))
    erased = (result(flip=0.0, erase=0.25) != plain).any(axis=(1, 2, 3))
    assert 6 < erased.sum() < 28
    assert (result(flip=0.0, blur=1.0) != plain).any(axis=(1, 2, 3)).mean() > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"flip": 2.0}, "flip must be a probability"), ({"mixup": -1.0}, "mixup"), ({"repeats": 0}, "repeats=0")],
)
def test_augmentation_arguments_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        training.Augmentation(**settings)


def test_too_many_operations_raise():
    with pytest.raises(ValueError, match="at most 64 numbers"):
        training.RandAugment(num_ops=40)(tf.zeros((2, 8, 8, 3), tf.uint8), Draws(NUMBERS[:2]))
