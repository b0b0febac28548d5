"""Which part of an image is taken, and how it is resized: for training and for evaluation.

A crop is called with an image, the size of the result and a random generator, and resizes with Pillow, which filters
when it makes an image smaller, as the recipes' own code does.
"""

import math
from dataclasses import dataclass

import numpy as np

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def _filter(interpolation):
    from PIL import Image

    return getattr(Image.Resampling, interpolation.upper())


def _check_interpolation(interpolation):
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is one of {', '.join(INTERPOLATIONS)}; received {interpolation!r}.")


def _shorter_side(image, size, interpolation):
    """Resize the whole image so that its shorter side has `size` pixels."""
    shorter = min(image.size)
    width, height = (size if side == shorter else int(size * side / shorter) for side in image.size)
    return image.resize((width, height), _filter(interpolation))


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and shape, resized to a square (Szegedy et al., arXiv 1409.4842, section 6).

    Attributes:
        scale: Smallest and largest area, as parts of the image's.
        ratio: Smallest and largest width, as parts of the height; drawn evenly in their logarithm.
        interpolation: One of `INTERPOLATIONS`.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"

    def __post_init__(self):
        _check_interpolation(self.interpolation)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is a range of areas between 0 and 1; received {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is a range of widths over heights; received {self.ratio}.")

    def box(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the box, in pixels."""
        for _ in range(10):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = (int(rng.integers(room + 1)) for room in (width - w, height - h))
                return left, top, left + w, top + h
        # The image is too long for any of them: its middle, as much as the shapes allow.
        w, h = min(width, round(height * self.ratio[1])), min(height, round(width / self.ratio[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def __call__(self, image, size: int, rng: np.random.Generator) -> np.ndarray:
        width, height = image.size
        box = self.box(width, height, rng)
        return np.asarray(image.resize((size, size), _filter(self.interpolation), box=box))


@dataclass(frozen=True)
class SimpleRandomCrop:
    """The whole image at the size of the result, moved by a few pixels (DeiT III, arXiv 2204.07118, section 3.3).

    The shorter side is resized, the image is mirrored at its rim, and a square is cut out anywhere.

    Attributes:
        padding: Pixels that are mirrored on each side.
        interpolation: One of `INTERPOLATIONS`.
    """

    padding: int = 4
    interpolation: str = "bicubic"

    def __post_init__(self):
        _check_interpolation(self.interpolation)

    def __call__(self, image, size: int, rng: np.random.Generator) -> np.ndarray:
        pixels = np.asarray(_shorter_side(image, size, self.interpolation))
        rim = (self.padding, self.padding)
        pixels = np.pad(pixels, (rim, rim, *[(0, 0)] * (pixels.ndim - 2)), mode="reflect")
        top, left = (int(rng.integers(side - size + 1)) for side in pixels.shape[:2])
        return pixels[top : top + size, left : left + size]


@dataclass(frozen=True)
class CentreCrop:
    """The middle of the image: what models are evaluated on.

    Attributes:
        fraction: The result's size over that of the resized image's shorter side.
        interpolation: One of `INTERPOLATIONS`.
    """

    fraction: float = 0.875
    interpolation: str = "bicubic"

    def __post_init__(self):
        _check_interpolation(self.interpolation)
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is above 0 and at most 1; received {self.fraction}.")

    def __call__(self, image, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
        pixels = np.asarray(_shorter_side(image, math.floor(size / self.fraction), self.interpolation))
        top, left = (round((side - size) / 2) for side in pixels.shape[:2])
        return pixels[top : top + size, left : left + size]
