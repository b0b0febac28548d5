import math

import numpy as np
import pytest
from PIL import Image

from keras_vit.training import CenterCrop, RandomAffine, RandomResizedCrop, SimpleRandomCrop
from tests.training.pictures import picture


def image(width=40, height=30):
    return Image.fromarray(picture(0, width, height))


def test_random_crops_have_uniform_areas_and_log_uniform_aspect_ratios():
    crop, rng = RandomResizedCrop(), np.random.default_rng(0)
    width, height = 640, 480
    boxes = np.array([crop.box(width, height, rng) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= width and bottom.max() <= height
    areas = (right - left) * (bottom - top) / (width * height)
    ratios = (right - left) / (bottom - top)
    assert 0.079 < areas.min() < 0.09 and areas.max() > 0.95
    # Up to this area all aspect ratios fit, so areas and logarithms of aspect ratios are distributed uniformly.
    fitting = areas < 0.5
    counts, _ = np.histogram(areas[fitting], bins=6, range=(0.08, 0.5))
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()
    counts, _ = np.histogram(np.log(ratios[fitting]), bins=6, range=(math.log(3 / 4), math.log(4 / 3)))
    assert counts.min() > 0.75 * counts.mean() and counts.max() < 1.25 * counts.mean()
    # Positions are uniform too: the margins on both sides are equal on average.
    assert left.mean() == pytest.approx((width - right).mean(), rel=0.1)
    assert top.mean() == pytest.approx((height - bottom).mean(), rel=0.1)


def test_random_crop_of_an_elongated_image_falls_back_to_the_center():
    assert RandomResizedCrop(scale=(0.9, 1.0)).box(900, 30, np.random.default_rng(0)) == (430, 0, 470, 30)
    assert RandomResizedCrop(scale=(0.9, 1.0)).box(30, 900, np.random.default_rng(0)) == (0, 430, 30, 470)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_random_crop_equals_its_resized_box(interpolation):
    crop = RandomResizedCrop(interpolation=interpolation)
    result = crop(image(), 16, np.random.default_rng(5))
    box = crop.box(40, 30, np.random.default_rng(5))
    # With `box`, Pillow also uses pixels outside the box, which affects only the border of the result.
    expected = np.asarray(image().crop(box).resize((16, 16), Image.Resampling[interpolation.upper()]))
    assert result.shape == (16, 16, 3)
    np.testing.assert_array_equal(result[3:-3, 3:-3], expected[3:-3, 3:-3])


def test_simple_random_crop_is_a_crop_of_the_image_with_reflection_padding():
    size, padding = 24, 4
    resized = np.asarray(image().resize((32, size), Image.Resampling.BICUBIC)).astype(int)
    # Reflection does not repeat the border pixel: index -1 maps to 1.
    rows, columns = (
        [abs(at) if at < side else 2 * (side - 1) - at for at in range(-padding, side + padding)] for side in (size, 32)
    )
    mirrored = resized[np.ix_(rows, columns)]
    corners = set()
    for seed in range(200):
        result = SimpleRandomCrop()(image(), size, np.random.default_rng(seed))
        found = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(8 + 2 * padding + 1)
            if np.array_equal(mirrored[top : top + size, left : left + size], result)
        ]
        assert len(found) == 1
        corners.add(found[0])
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), max(tops)) == (0, 8) and (min(lefts), max(lefts)) == (0, 16)


class Highest:
    """A random generator that always draws the highest number."""

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)


MARGIN = ((4, 4), (4, 4), (0, 0))
STILL = {"scale": (1.0, 1.0), "shift": 0.0, "rotation": 0.0, "shear": 0.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda pixels: pixels),
        ({"rotation": 90.0}, lambda pixels: np.rot90(pixels)),
        # A quarter of 16 pixels: the part that is shown lies further right and further down.
        ({"shift": 0.25}, lambda pixels: np.pad(pixels[4:, 4:], ((0, 4), (0, 4), (0, 0)))),
        (
            {"scale": (2.0, 2.0), "interpolation": "nearest"},
            lambda pixels: np.pad(pixels[1::2, 1::2], ((4, 4), (4, 4), (0, 0))),
        ),
    ],
)
def test_an_affine_view_moves_pixels(changes, expected):
    pixels = picture(0, 16, 16)
    result = RandomAffine(**{**STILL, **changes})(Image.fromarray(pixels), 16, Highest())
    np.testing.assert_allclose(result.astype(int), expected(pixels), atol=1)  # Pillow rounds.


def test_an_affine_view_shears_rows_around_the_center():
    pixels = np.zeros((16, 16, 3), "uint8")
    pixels[:, 8] = 255
    result = RandomAffine(**{**STILL, "shear": 0.5, "interpolation": "nearest"})(Image.fromarray(pixels), 16, Highest())
    for row in range(16):
        # The row shows what lies further right by half of its distance from the center, 7.5.
        place = 8.5 - 0.5 * (row + 0.5 - 8)
        assert abs(result[row, :, 0].argmax() + 0.5 - place) <= 0.5 and (result[row, :, 0] > 0).sum() == 1


def test_an_affine_view_of_a_part_is_that_part_enlarged():
    pixels = Image.fromarray(picture(0, 32, 32))
    result = RandomAffine(**{**STILL, "scale": (0.5, 0.5), "interpolation": "bilinear"})(pixels, 32, Highest())
    expected = np.asarray(pixels.resize((32, 32), Image.Resampling.BILINEAR, box=(8, 8, 24, 24)))
    np.testing.assert_allclose(result.astype(int), expected, atol=1)


def test_center_crop():
    crop = CenterCrop(fraction=0.875)
    resized = np.asarray(image(400, 300).resize((341, 256), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(crop(image(400, 300), 224), resized[16:240, 58:282])
    assert CenterCrop(1.0)(image(30, 50), 30).shape == (30, 30, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(scale=(0.0, 1.0)), "scale"),
        (lambda: RandomResizedCrop(ratio=(2.0, 1.0)), "ratio"),
        (lambda: RandomResizedCrop(interpolation="cubic"), "nearest, bilinear, bicubic, lanczos; received 'cubic'"),
        (lambda: RandomAffine(scale=(0.0, 1.0)), "scale"),
        (lambda: RandomAffine(interpolation="lanczos"), "nearest, bilinear, bicubic; received 'lanczos'"),
        (lambda: CenterCrop(87.5), "fraction"),
    ],
)
def test_invalid_crop_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
