"""Choose random operations, their order and their strengths: RandAugment, AutoAugment, 3-Augment and color jitter.

A policy is called with images of shape (batch, height, width, 3), uint8, and their `Draws`, and returns images of the
same shape and dtype. It holds no random state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keras_vit.training.augment import pixels
from keras_vit.training.augment.draws import Draws, by_choice
from keras_vit.training.lazy_modules import tf


def _part(most: float) -> Callable:
    """Return a function for a strength proportional to the level (0 to 1), up to `most`, with a random sign."""
    return lambda level, sign: most * level * sign


def _whole(start: float, change: float) -> Callable:
    """Return a function for an integer strength that starts at `start` and changes by up to `change` with the level."""
    return lambda level, sign: start + (-1 if change < 0 else 1) * tf.floor(abs(change) * level)


def _away_from_one(level, sign):
    return tf.maximum(0.1, 1 + 0.9 * level * sign)


def _from_a_tenth(level, sign):
    return 0.1 + 1.8 * level


_MOTIONS = {
    "Rotate": (pixels.rotate, _part(30)),
    "ShearX": (pixels.shear_x, _part(0.3)),
    "ShearY": (pixels.shear_y, _part(0.3)),
    "TranslateX": (pixels.translate_x, _part(0.45)),
    "TranslateY": (pixels.translate_y, _part(0.45)),
}
_FIXED = {
    "AutoContrast": (pixels.autocontrast, None),
    "Equalize": (pixels.equalize, None),
    "Invert": (pixels.invert, None),
}
_ENHANCEMENTS = {
    "Color": pixels.color,
    "Contrast": pixels.contrast,
    "Brightness": pixels.brightness,
    "Sharpness": pixels.sharpness,
}
# Each table maps a name to an operation and its strength, which is a function of a level and a sign. _INCREASING is the
# variant of RandAugment that recipes denote by "inc1": a higher level makes every operation stronger. _ORIGINAL is the
# table of the paper's authors, where a higher level makes some operations weaker. _AUTO is the table of AutoAugment
# (table 6 of its paper).
_INCREASING = {
    **_FIXED,
    **_MOTIONS,
    "Posterize": (pixels.posterize, _whole(4, -4)),
    "Solarize": (pixels.solarize, _whole(256, -256)),
    "SolarizeAdd": (pixels.solarize_add, _whole(0, 110)),
    **{name: (operation, _away_from_one) for name, operation in _ENHANCEMENTS.items()},
}
_ORIGINAL = {
    **_INCREASING,
    "Posterize": (pixels.posterize, _whole(0, 4)),
    "Solarize": (pixels.solarize, _whole(0, 256)),
    **{name: (operation, _from_a_tenth) for name, operation in _ENHANCEMENTS.items()},
}
_AUTO = {**_ORIGINAL, "Posterize": (pixels.posterize, _whole(4, 4))}


def _apply(table, index, images, level, sign):
    """Apply the operation at `index` of a table to each image, or none if the index is past the end of the table."""

    def operation(function, strength):
        if strength is None:
            return lambda images, level, sign: function(images)
        return lambda images, level, sign: function(images, strength(level, sign))

    return by_choice(images, index, [operation(*entry) for entry in table.values()], level, sign)


@dataclass(frozen=True)
class RandAugment:
    """Apply randomly chosen operations of a common strength (RandAugment; Cubuk et al., arXiv 1909.13719).

    The defaults are those of DeiT's recipe, which denotes them by rand-m9-mstd0.5-inc1: each operation is applied with
    a probability, and its magnitude varies. Geometric operations use bilinear interpolation.

    Attributes:
        num_ops: Number of operations drawn for each image; an operation can be drawn twice.
        magnitude: Mean of the magnitude, which is normally distributed. The scale is that of the paper.
        magnitude_std: Standard deviation of the magnitude.
        max_magnitude: Upper limit of the magnitude; the lower limit is 0.
        increasing: Whether a higher magnitude makes every operation stronger. If False, posterizing, solarizing and
            the color, contrast, brightness and sharpness operations follow the code of the paper.
        probability: Probability of applying an operation that was drawn.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    max_magnitude: float = 10.0
    increasing: bool = True
    probability: float = 0.5

    def __call__(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        table = _INCREASING if self.increasing else _ORIGINAL
        for _ in range(self.num_ops):
            index = tf.where(draws.chance(self.probability), draws.choice(len(table)), len(table))
            magnitude = self.magnitude + self.magnitude_std * draws.normal()
            level = tf.clip_by_value(magnitude, 0.0, self.max_magnitude) / 10
            images = _apply(table, index, images, level, draws.sign())
        return images


# The policy that the paper found on ImageNet (table 9). Each row has two operations, each with a probability and a
# magnitude.
_SUBPOLICIES = (
    ("Posterize", 0.4, 8, "Rotate", 0.6, 9),
    ("Solarize", 0.6, 5, "AutoContrast", 0.6, 5),
    ("Equalize", 0.8, 8, "Equalize", 0.6, 3),
    ("Posterize", 0.6, 7, "Posterize", 0.6, 6),
    ("Equalize", 0.4, 7, "Solarize", 0.2, 4),
    ("Equalize", 0.4, 4, "Rotate", 0.8, 8),
    ("Solarize", 0.6, 3, "Equalize", 0.6, 7),
    ("Posterize", 0.8, 5, "Equalize", 1.0, 2),
    ("Rotate", 0.2, 3, "Solarize", 0.6, 8),
    ("Equalize", 0.6, 8, "Posterize", 0.4, 6),
    ("Rotate", 0.8, 8, "Color", 0.4, 0),
    ("Rotate", 0.4, 9, "Equalize", 0.6, 2),
    ("Equalize", 0.0, 7, "Equalize", 0.8, 8),
    ("Invert", 0.6, 4, "Equalize", 1.0, 8),
    ("Color", 0.6, 4, "Contrast", 1.0, 8),
    ("Rotate", 0.8, 8, "Color", 1.0, 2),
    ("Color", 0.8, 8, "Solarize", 0.8, 7),
    ("Sharpness", 0.4, 7, "Invert", 0.6, 8),
    ("ShearX", 0.6, 5, "Equalize", 1.0, 9),
    ("Color", 0.4, 0, "Equalize", 0.6, 3),
    ("Equalize", 0.4, 7, "Solarize", 0.2, 4),
    ("Solarize", 0.6, 5, "AutoContrast", 0.6, 5),
    ("Invert", 0.6, 4, "Equalize", 1.0, 8),
    ("Color", 0.6, 4, "Contrast", 1.0, 8),
    ("Equalize", 0.8, 8, "Equalize", 0.6, 3),
)


@dataclass(frozen=True)
class AutoAugment:
    """Apply one of the 25 pairs of operations found on ImageNet (Cubuk et al., arXiv 1805.09501, appendix)."""

    def __call__(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        pair = draws.choice(len(_SUBPOLICIES))
        for number in range(2):
            names, probabilities, magnitudes = zip(*(row[3 * number :][:3] for row in _SUBPOLICIES), strict=True)
            index = tf.gather([list(_AUTO).index(name) for name in names], pair)
            index = tf.where(draws.chance(tf.gather(probabilities, pair)), index, len(_AUTO))
            level = tf.gather(tf.constant(magnitudes, tf.float32), pair) / 10
            images = _apply(_AUTO, index, images, level, draws.sign())
        return images


@dataclass(frozen=True)
class ThreeAugment:
    """Apply grayscale, solarization or blur, chosen at random (DeiT III, arXiv 2204.07118, section 3.3).

    In the paper, `ColorJitter(0.3, 0.3, 0.3)` follows.
    """

    def __call__(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        operations = (
            lambda images, sigma: pixels.gray(images),
            lambda images, sigma: pixels.solarize(images, tf.fill(tf.shape(sigma), 128.0)),
            pixels.blur,
        )
        return by_choice(images, draws.choice(3), operations, draws.uniform(0.1, 2.0))


@dataclass(frozen=True)
class ColorJitter:
    """Randomly change brightness, contrast, saturation and hue, in random order.

    Attributes:
        brightness: Largest change of the brightness factor, which is drawn from [1 - brightness, 1 + brightness].
        contrast: Largest change of the contrast factor, drawn likewise.
        saturation: Largest change of the saturation factor, drawn likewise.
        hue: Largest rotation of the hue in either direction, as a fraction of the color circle, at most 0.5.
        probability: Probability of applying the jitter to an image.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0

    def __call__(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        changes: list[tuple[Callable, tf.Tensor]] = []
        for operation, reach in (
            (pixels.brightness, self.brightness),
            (pixels.contrast, self.contrast),
            (pixels.color, self.saturation),
        ):
            if reach:
                changes.append((operation, draws.uniform(max(0.0, 1 - reach), 1 + reach)))
        if self.hue:
            changes.append((pixels.hue, draws.uniform(-self.hue, self.hue)))
        if not changes:
            return images
        operations, strengths = zip(*changes, strict=True)
        order = tf.argsort(tf.stack([draws.uniform() for _ in changes], axis=1), axis=1)
        happens = draws.chance(self.probability)

        def change(number):
            return lambda images, strengths: operations[number](images, strengths[:, number])

        for place in range(len(changes)):
            index = tf.where(happens, order[:, place], len(changes))
            images = by_choice(
                images, index, [change(number) for number in range(len(changes))], tf.stack(strengths, 1)
            )
        return images
