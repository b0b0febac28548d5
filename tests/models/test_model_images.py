"""What a model says about its images, also behind layers that scale them, and which ranges of images are refused."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.image_facts import HALF, IMAGENET, UNIT, Statistics
from keras_vit.models.model_images import check_range, image_facts, normalizes_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 16, 16, 3))


def vit(**settings):
    given = {"classes": 3, "input_shape": (16, 16, 3), "patch_size": 8, "width": 12, "depth": 1, "num_heads": 2}
    return keras_vit.ViT(**{**given, **settings})


def deit():
    return keras_vit.DeiT(classes=3, input_shape=(16, 16, 3), patch_size=8, width=12, depth=1, num_heads=2)


def behind(*layers, model=None):
    """Return a model whose images go through layers or functions, and then through a ViT."""
    x = image = keras.Input((16, 16, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, (model or vit())(x))


def normalization():
    """Return a layer with ImageNet's statistics of pixels in [0, 255]."""
    mean, variance = [255 * value for value in IMAGENET.mean], [(255 * value) ** 2 for value in IMAGENET.std]
    return keras.layers.Normalization(mean=mean, variance=variance)


@pytest.mark.parametrize(
    ("model", "scale", "offset"),
    [
        (lambda: behind(keras.layers.Rescaling(1 / 127.5, -1)), 1 / 127.5, -1),
        (lambda: behind(lambda x: x / 127.5 - 1), 1 / 127.5, -1),
        (lambda: behind(lambda x: (x - 127.5) * (1 / 127.5)), 1 / 127.5, -1),
        (lambda: behind(keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 127.5, -1)), 1 / 127.5, -1),
        (
            lambda: keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 127.5, -1), vit()]),
            1 / 127.5,
            -1,
        ),
        (lambda: behind(normalization(), model=deit()), 1 / 255 / np.array(IMAGENET.std), None),
        (lambda: behind(keras.layers.Rescaling(255), model=vit(include_preprocessing=True)), 255, 0),
        (lambda: behind(keras.layers.Rescaling(2, -1)), 2, -1),
        (lambda: behind(keras.layers.RandomContrast(0.1)), 1, 0),
        (lambda: behind(lambda x: 1 - x), -1, 1),
    ],
)
def test_layers_in_front_of_a_model_are_part_of_how_it_takes_images(model, scale, offset):
    """What the inner model receives is normalized as it takes images, whatever comes before it."""
    model = model()
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    if offset is None:
        offset = -np.array(IMAGENET.mean) / IMAGENET.std
    received = scale * keras_vit.preprocess_input(PIXELS, model).astype("float64") + offset
    np.testing.assert_allclose(received, keras_vit.preprocess_input(PIXELS, inner), atol=2e-3)


def test_a_model_behind_rescaling_takes_pixels():
    model = behind(keras.layers.Rescaling(1 / 127.5, -1))
    assert normalizes_images(model) and not normalizes_images(vit())
    assert image_facts(model).statistics == HALF
    scaled = image_facts(behind(keras.layers.Rescaling(2, -1))).statistics  # Turns [0, 1] into [-1, 1].
    np.testing.assert_allclose(scaled.scale_and_offset(3), UNIT.scale_and_offset(3), atol=1e-9)


@pytest.mark.parametrize(
    "images",
    [
        RNG.standard_normal((64, 16, 16, 3)).astype("float32"),
        RNG.uniform(-1, 1, (4, 16, 16, 3)),
        RNG.uniform(0, 1, (4, 16, 16, 3)),
        np.zeros((1, 16, 16, 3)),
        PIXELS / 127.5 - 1,
        (PIXELS / 255 - IMAGENET.mean) / IMAGENET.std,
    ],
)
@pytest.mark.parametrize("model", [vit(), deit(), vit(include_preprocessing=False)])
def test_normalized_and_random_images_are_accepted(model, images):
    check_range(images, model)


@pytest.mark.parametrize("images", [PIXELS.astype("uint8"), PIXELS, PIXELS.astype("float32"), PIXELS / 3])
@pytest.mark.parametrize("model", [vit(), deit(), keras_vit.fuse(vit())], ids=lambda model: model.name)
def test_pixels_are_refused_for_a_model_that_takes_normalized_images(model, images):
    with pytest.raises(ValueError, match=rf"from 0 to \d+.*{model.name!r} takes images normalized by .*from -.* to "):
        check_range(images, model)


@pytest.mark.parametrize(
    ("images", "is_accepted"),
    [
        (PIXELS.astype("uint8"), True),
        (PIXELS.astype("float32") + 20 * RNG.uniform(-1, 1, PIXELS.shape), True),  # Interpolation overshoots.
        (np.zeros((1, 16, 16, 3), "float32"), True),
        (RNG.integers(0, 4, PIXELS.shape).astype("float32"), True),  # A night.
        (3 * RNG.uniform(0, 1, PIXELS.shape), True),
        (PIXELS / 255, False),
        (PIXELS / 127.5 - 1, False),
        ((PIXELS / 255 - IMAGENET.mean) / IMAGENET.std, False),
        (PIXELS - 127.5, False),
        (257 * PIXELS, False),  # 16 bits.
    ],
)
@pytest.mark.parametrize(
    "model",
    [vit(include_preprocessing=True), behind(keras.layers.Rescaling(1 / 127.5, -1))],
    ids=["include_preprocessing", "Rescaling"],
)
def test_only_pixels_are_accepted_for_a_model_that_takes_pixels(model, images, is_accepted):
    if is_accepted:
        check_range(images, model)
    else:
        with pytest.raises(ValueError, match=r"The images are .* from .* takes pixels from 0 to 255"):
            check_range(images, model)


def test_images_of_a_model_that_says_nothing_are_not_checked():
    other = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()])
    check_range(PIXELS, other)
    check_range(PIXELS / 127.5 - 1, other)


def test_statistics_of_another_number_of_channels_are_averaged():
    gray = keras_vit.DeiT(classes=3, input_shape=(16, 16, 1), patch_size=8, width=12, depth=1, num_heads=2)
    statistics = image_facts(gray).statistics
    assert statistics.mean == pytest.approx(np.mean(IMAGENET.mean)) and statistics.std == pytest.approx(0.226)
    assert keras_vit.preprocess_input(PIXELS[..., :1], gray).shape == (4, 16, 16, 1)


def test_statistics_from_lists_and_arrays():
    assert Statistics([0.485, 0.456, 0.406], np.array([0.229, 0.224, 0.225])) == IMAGENET
    with pytest.raises(ValueError, match="must not be 0"):
        Statistics(0.5, 0)
