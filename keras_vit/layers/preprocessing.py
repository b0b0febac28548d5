"""How a model takes its images, as a layer: it is saved with the model and survives cloning, flattening and fusing."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_vit.utils.normalization import scale_and_offset


@keras.saving.register_keras_serializable("keras_vit")
class Preprocessing(keras.layers.Layer):
    """Normalize images, or only record how they must be normalized.

    `keras_vit.models.model_images.image_facts` reads these facts from a model.

    Args:
        mean: Mean of images in [0, 1]: one number, or one for each channel.
        std: Their standard deviation, likewise.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: How evaluation resizes: "bicubic" or "bilinear".
        source: Where the model's weights come from, or None.
        normalize: Whether the layer takes images in [0, 255] and normalizes them in float32. If False, it takes
            normalized images and returns them as they are.
        class_names: Names of the model's classes, see `keras_vit.class_names`, or None.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        mean: float | tuple[float, ...],
        std: float | tuple[float, ...],
        crop_fraction: float = 0.875,
        interpolation: str = "bicubic",
        source: str | None = None,
        normalize: bool = False,
        class_names: Sequence[str] | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(mean) if isinstance(mean, (list, tuple)) else mean
        self.std = tuple(std) if isinstance(std, (list, tuple)) else std
        self.crop_fraction = crop_fraction
        self.interpolation = interpolation
        self.source = source
        self.normalize = normalize
        self.class_names = tuple(class_names) if class_names else None

    def call(self, images):
        if not self.normalize:
            return images
        scale, offset = (
            ops.convert_to_tensor(values, "float32")
            for values in scale_and_offset(self.mean, self.std, images.shape[-1])
        )
        return ops.cast(images, "float32") * scale + offset

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
            "source": self.source,
            "normalize": self.normalize,
            "class_names": self.class_names,
        }
