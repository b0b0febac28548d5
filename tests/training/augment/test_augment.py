"""Measure shift, angle and scale from the motion of a bright spot, independently of the implementation."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vit.training.augment import affine

SIZE, CENTER, RADIUS = 65, 32.0, 14.0
SEEDS = np.stack([np.full(64, 123), np.arange(64)], axis=1)


def spot(x, y):
    at = np.arange(SIZE)
    return np.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / 18).astype("float32")


def measure(images):
    """Return the total mass and the position of its center relative to the image center."""
    images = images.numpy()[..., 0].astype("float64")
    mass = images.sum(axis=(1, 2))
    at = np.arange(SIZE) - CENTER
    return mass, (images.sum(axis=1) @ at) / mass, (images.sum(axis=2) @ at) / mass


def moved(x, **ranges):
    images = tf.constant(np.repeat(spot(CENTER + x, CENTER)[None, ..., None], 64, axis=0))
    return measure(affine(images, tf.constant(SEEDS), **{"shift": 0, "rotation": 0, "zoom": 0, **ranges}))


def test_zero_ranges_return_the_image_unchanged():
    images = tf.random.stateless_uniform((4, 8, 8, 3), (1, 2))
    result = affine(images, tf.constant(SEEDS[:4]), shift=0, rotation=0, zoom=0)
    np.testing.assert_allclose(result, images, atol=1e-6)


def test_shift_stays_within_its_range():
    mass, x, y = moved(0, shift=0.1)
    assert np.ptp(mass) / mass.mean() < 0.01
    for offset in (x, y):
        assert np.abs(offset).max() < 6.5 + 0.01
        assert offset.min() < -3 and offset.max() > 3
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.5


def test_rotation_is_about_the_center():
    mass, x, y = moved(RADIUS, rotation=10)
    np.testing.assert_allclose(np.hypot(x, y), RADIUS, atol=0.02)
    assert np.ptp(mass) / mass.mean() < 0.01
    angle = np.degrees(np.arctan2(y, x))
    assert np.abs(angle).max() < 10.1
    assert angle.min() < -5 and angle.max() > 5


def test_zoom_is_about_the_center():
    still, _, _ = moved(RADIUS)
    mass, x, y = moved(RADIUS, zoom=0.1)
    scale = x / RADIUS
    np.testing.assert_allclose(y, 0, atol=0.01)
    np.testing.assert_allclose(np.sqrt(mass / still), scale, atol=0.005)
    assert 0.9 < scale.min() < 0.95 and 1.05 < scale.max() < 1.1


def test_combined_motions_stay_within_the_sum_of_their_ranges():
    _, x, y = moved(RADIUS, shift=0.1, rotation=10, zoom=0.1)
    assert np.hypot(x - RADIUS, y).max() < 6.5 * np.sqrt(2) + RADIUS * (np.radians(10) + 0.1)
    assert np.hypot(x - RADIUS, y).min() > 0


def test_result_depends_only_on_the_image_and_its_seed():
    images, seeds = tf.random.stateless_uniform((6, 8, 8, 1), (1, 2)), tf.constant(SEEDS[:6])
    ranges = {"shift": 0.1, "rotation": 10, "zoom": 0.1}
    result = affine(images, seeds, **ranges).numpy()
    order = [5, 0, 3, 1, 4, 2]
    shuffled = affine(tf.gather(images, order), tf.gather(seeds, order), **ranges)
    np.testing.assert_array_equal(shuffled, result[order])
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(affine(images, tf.gather(seeds, order), **ranges), result)
