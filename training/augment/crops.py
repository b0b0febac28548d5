"""Crop and resize images for training and evaluation.

A crop is called with a Pillow image, the output size and a random generator. It resizes with Pillow, which applies an
antialiasing filter when it shrinks an image, as the original code of the recipes does.
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
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}; received {interpolation!r}.")


def _shorter_side(image, size, interpolation):
    """Resize an image so that its shorter side is `size` pixels long, keeping the aspect ratio."""
    shorter = min(image.size)
    width, height = (size if side == shorter else int(size * side / shorter) for side in image.size)
    return image.resize((width, height), _filter(interpolation))


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a box of random area and aspect ratio and resize it to a square (arXiv 1409.4842, section 6).

    Attributes:
        scale: Smallest and largest area of the box, as fractions of the image area.
        ratio: Smallest and largest aspect ratio (width / height) of the box; its logarithm is drawn uniformly.
        interpolation: One of `INTERPOLATIONS`.

    Raises:
        ValueError: If `scale`, `ratio` or `interpolation` is out of range.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"

    def __post_init__(self):
        _check_interpolation(self.interpolation)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be a range of area fractions between 0 and 1; received {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be a range of aspect ratios (width / height) above 0; received {self.ratio}.")

    def box(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return a random box of an image as (left, top, right, bottom), in pixels."""
        for _ in range(10):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = (int(rng.integers(room + 1)) for room in (width - w, height - h))
                return left, top, left + w, top + h
        # No box fits an elongated image: take the largest box at its center that the aspect ratios allow.
        w, h = min(width, round(height * self.ratio[1])), min(height, round(width / self.ratio[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def __call__(self, image, size: int, rng: np.random.Generator) -> np.ndarray:
        width, height = image.size
        box = self.box(width, height, rng)
        return np.asarray(image.resize((size, size), _filter(self.interpolation), box=box))


@dataclass(frozen=True)
class SimpleRandomCrop:
    """Resize an image and crop a square at a random position (DeiT III, Touvron et al., arXiv 2204.07118, section 3.3).

    The shorter side is resized to the output size, and reflection padding is added on each side before the crop.

    Attributes:
        padding: Width of the reflection padding on each side, in pixels.
        interpolation: One of `INTERPOLATIONS`.

    Raises:
        ValueError: If `interpolation` is unknown.
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
class RandomAffine:
    """Scale, shear, rotate and shift an image, which becomes a square, by random amounts in one resampling.

    It is for small images whose objects fill the frame, such as scanned digits, where a crop cuts off what tells the
    classes apart. What lies outside the image is black.

    Attributes:
        scale: Smallest and largest side of the part that is shown, as fractions of the image's sides, drawn for each
            side. With 1.2, a margin around the image is shown too.
        shift: Largest shift of the part in either direction, as a fraction of the image's sides.
        rotation: Largest rotation in either direction, in degrees.
        shear: Largest shear in either direction: the shift of a row, as a fraction of its distance from the center.
        interpolation: "nearest", "bilinear" or "bicubic".

    Raises:
        ValueError: If `scale` or `interpolation` is out of range.
    """

    scale: tuple[float, float] = (0.8, 1.15)
    shift: float = 0.12
    rotation: float = 15.0
    shear: float = 0.15
    interpolation: str = "bicubic"

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS[:3]:
            names = ", ".join(INTERPOLATIONS[:3])
            raise ValueError(f"interpolation must be one of {names}; received {self.interpolation!r}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be a range of fractions of the sides above 0; received {self.scale}.")

    def __call__(self, image, size: int, rng: np.random.Generator) -> np.ndarray:
        from PIL import Image

        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        shear = rng.uniform(-self.shear, self.shear)
        scale = np.array([rng.uniform(*self.scale), rng.uniform(*self.scale)])
        shift = rng.uniform(-self.shift, self.shift, 2)
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        # From a place in the result to one in the image, both as (x, y), from the center, with sides of length 1.
        matrix = scale[:, None] * (rotation @ [[1.0, shear], [0.0, 1.0]])
        sides = np.array(image.size)
        terms = sides * (0.5 - matrix.sum(axis=1) / 2 + shift)
        rows = np.column_stack([matrix * sides[:, None] / size, terms])
        filter_ = _filter(self.interpolation)
        return np.asarray(image.transform((size, size), Image.Transform.AFFINE, rows.ravel().tolist(), filter_))


@dataclass(frozen=True)
class CenterCrop:
    """Resize an image and crop a square at its center, as for evaluation.

    Attributes:
        fraction: Output size divided by the shorter side of the resized image.
        interpolation: One of `INTERPOLATIONS`.

    Raises:
        ValueError: If `fraction` is not in (0, 1], or `interpolation` is unknown.
    """

    fraction: float = 0.875
    interpolation: str = "bicubic"

    def __post_init__(self):
        _check_interpolation(self.interpolation)
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be greater than 0 and at most 1; received {self.fraction}.")

    def __call__(self, image, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
        pixels = np.asarray(_shorter_side(image, math.floor(size / self.fraction), self.interpolation))
        top, left = (round((side - size) / 2) for side in pixels.shape[:2])
        return pixels[top : top + size, left : left + size]
