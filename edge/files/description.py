"""What an exported file says about itself, as JSON in its metadata. Imports neither Keras nor a file format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.utils.normalization import scale_and_offset

# The name of the entry in the metadata of .tflite and .onnx files.
ENTRY = "keras_vit_description"


@dataclasses.dataclass(frozen=True)
class ImagePreprocessing:
    """How to turn a picture into what a file takes.

    Resize the picture so that it just covers the input size divided by `crop_fraction`, crop its center to the input
    size, and compute `scale * pixel + offset` for each channel of the pixels in [0, 255].

    Attributes:
        mean, std: The statistics of images in [0, 1] that the input is normalized by, a number for each channel; None
            if the file takes pixels in [0, 255] and normalizes them itself.
        scale, offset: The factor and the term for each channel.
        range: The smallest and the largest value of an input.
        crop_fraction: The fraction of the resized picture's side that is kept.
        interpolation: The interpolation that the picture is resized with, "bicubic" or "bilinear".
    """

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    range: tuple[float, float]
    crop_fraction: float
    interpolation: str

    @classmethod
    def of(
        cls,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
        channels: int,
        crop_fraction: float,
        interpolation: str,
    ) -> ImagePreprocessing:
        """Return the preprocessing for statistics, or for a file that takes pixels in [0, 255] if they are None."""
        scale, offset = [1.0] * channels, [0.0] * channels
        means, stds = (None if value is None else _for_channels(value, channels) for value in (mean, std))
        if means is not None and stds is not None:
            scale, offset = scale_and_offset(means, stds, channels)
        ends = [*offset, *(255 * s + o for s, o in zip(scale, offset, strict=True))]
        return cls(means, stds, tuple(scale), tuple(offset), (min(ends), max(ends)), crop_fraction, interpolation)

    def agrees_with(self, other: ImagePreprocessing) -> bool:
        """Return whether both give the same values for the same pixels."""
        one, two = (np.array([each.scale, each.offset]) for each in (self, other))
        return one.shape == two.shape and np.allclose(one, two, rtol=1e-3, atol=1e-6)

    def __str__(self) -> str:
        if self.mean is None or self.std is None:
            return "pixels from 0 to 255"
        low, high = self.range
        return f"images normalized by mean {_numbers(self.mean)} and std {_numbers(self.std)}, {low:.3g} to {high:.3g}"


@dataclasses.dataclass(frozen=True)
class Description:
    """What an exported file says about itself.

    Attributes:
        model: The name of the model.
        scheme: The attributes of the `keras_vit.edge.Scheme` of the file.
        class_names: The names of the classes in the order of the scores; None if the model does not know them.
        preprocessing: How to prepare images; None if the model does not know it.
        weights_sha256: The SHA-256 hash of the weights of the model that was exported, see
            `keras_vit.edge.weights_hash`.
        versions: The versions of the packages that wrote the file, by name.
        min_runtime: The oldest runtime that has all operators of the file, such as "TensorFlow Lite 2.17.0".
    """

    model: str
    scheme: dict
    class_names: tuple[str, ...] | None
    preprocessing: ImagePreprocessing | None
    weights_sha256: str
    versions: dict[str, str]
    min_runtime: str | None = None

    @property
    def precision(self) -> str:
        """The name of the scheme."""
        return self.scheme["name"]

    def to_json(self) -> str:
        """Return the description as it is stored in a file. It is the same for the same attributes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Description | None:
        """Return the description from what `to_json` returned, or None for anything else.

        Attributes that a newer version may have added are left out.
        """
        try:
            values = _known(cls, json.loads(text))
            if values["preprocessing"] is not None:
                taken = _known(ImagePreprocessing, values["preprocessing"])
                lists = {name: tuple(value) for name, value in taken.items() if isinstance(value, list)}
                values["preprocessing"] = ImagePreprocessing(**{**taken, **lists})
            if values["class_names"] is not None:
                values["class_names"] = tuple(values["class_names"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def _known(kind: type, values: dict) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _for_channels(value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(np.broadcast_to(value, (channels,)).tolist())


def _numbers(values: Sequence[float]) -> str:
    return f"{values[0]:.4g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
