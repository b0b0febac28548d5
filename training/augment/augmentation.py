"""Define the complete augmentation of a training image."""

from __future__ import annotations

from dataclasses import dataclass, field

from keras_vit.training.augment import pixels
from keras_vit.training.augment.crops import CenterCrop, RandomAffine, RandomResizedCrop, SimpleRandomCrop
from keras_vit.training.augment.draws import Draws, on_some
from keras_vit.training.augment.erasing import erase
from keras_vit.training.augment.mixing import mix
from keras_vit.training.augment.policies import AutoAugment, ColorJitter, RandAugment, ThreeAugment
from keras_vit.training.lazy_modules import tf

_PROBABILITIES = ("flip", "gray", "blur", "solarize", "erase", "mix_probability", "switch_probability")


@dataclass(frozen=True)
class Augmentation:
    """Augment training images, with operations applied in the order of the attributes.

    The default is a random resized crop and a horizontal flip, which most recipes start with. DeiT's recipe is
    `Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)`. DeiT's settings also list color
    jitter, but it is not applied when RandAugment is on.

    Attributes:
        crop: `RandomResizedCrop`, `SimpleRandomCrop`, `RandomAffine` or `CenterCrop`.
        flip: Probability of a horizontal flip.
        policy: `RandAugment`, `AutoAugment`, `ThreeAugment` or None.
        jitter: `ColorJitter` or None.
        gray: Probability of converting the image to grayscale.
        blur: Probability of a Gaussian blur, with a standard deviation between 0.1 and 2 pixels.
        solarize: Probability of solarizing, which inverts pixel values of 128 and above.
        erase: Probability of random erasing, which fills a box with noise.
        mixup: Alpha of the Beta distribution of MixUp; 0 turns MixUp off.
        cutmix: Alpha of the Beta distribution of CutMix; 0 turns CutMix off.
        mix_probability: Probability of applying MixUp or CutMix to a batch.
        switch_probability: Probability of choosing CutMix for a mixed batch, if both are on.
        repeats: Number of times each image is used in an epoch, with a different augmentation each time (repeated
            augmentation; Hoffer et al., arXiv 1901.09335). The number of samples in an epoch does not change, so an
            epoch covers fewer distinct images.
        image_size: Image size of this view in pixels, if it differs from the image size of the data.

    Raises:
        ValueError: If a probability is not between 0 and 1, an alpha is negative, or `repeats` is less than 1.
    """

    crop: RandomResizedCrop | SimpleRandomCrop | RandomAffine | CenterCrop = field(default_factory=RandomResizedCrop)
    flip: float = 0.5
    policy: RandAugment | AutoAugment | ThreeAugment | None = None
    jitter: ColorJitter | None = None
    gray: float = 0.0
    blur: float = 0.0
    solarize: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5
    repeats: int = 1
    image_size: int | None = None

    def __post_init__(self):
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability between 0 and 1; received {getattr(self, name)}.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is an alpha and must be at least 0; received {getattr(self, name)}.")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1; received repeats={self.repeats}.")

    @property
    def needs_colors(self) -> bool:
        """Whether the augmentation requires images with three channels."""
        return bool(self.policy or self.jitter or self.gray or self.blur or self.solarize)

    @property
    def mixes(self) -> bool:
        """Whether the augmentation combines two images into one."""
        return bool(self.mixup or self.cutmix)

    def of_images(self, images: tf.Tensor, numbers: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Apply all operations between the crop and the mixing.

        Args:
            images: Images of shape (batch, height, width, channels), uint8.
            numbers: Random numbers of shape (batch, numbers); each row is the result of `numbers_of` for the seed of
                one image.
            seeds: Seed of each image, of shape (batch, 2), int64.

        Returns:
            Images of the same shape, float32, with values in [0, 255] except in erased boxes.
        """
        draws = Draws(numbers)
        if self.flip:
            images = on_some(images, draws.chance(self.flip), lambda images: tf.reverse(images, axis=[2]))
        for policy in (self.policy, self.jitter):
            if policy is not None:
                images = policy(images, draws)
        if self.gray:
            images = on_some(images, draws.chance(self.gray), pixels.gray)
        if self.blur:
            images = on_some(images, draws.chance(self.blur), pixels.blur, draws.uniform(0.1, 2.0))
        if self.solarize:
            threshold = tf.fill(tf.shape(images)[:1], 128.0)
            images = on_some(images, draws.chance(self.solarize), pixels.solarize, threshold)
        images = tf.cast(images, tf.float32)
        return on_some(images, draws.chance(self.erase), erase, seeds) if self.erase else images

    def of_batch(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Apply MixUp or CutMix to a batch.

        Args:
            images: Images of shape (batch, height, width, channels), float32.
            labels: One-hot labels of shape (batch, classes), float32.
            seed: Seed of the batch, of shape (2,), int64.

        Returns:
            Mixed images and labels of the same shapes.
        """
        return mix(
            images,
            labels,
            seed,
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            probability=self.mix_probability,
            switch_probability=self.switch_probability,
        )


def multi_crop(
    global_size: int = 224,
    local_size: int = 96,
    local_crops: int = 8,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
) -> tuple[Augmentation, ...]:
    """Return the multi-crop augmentation of DINO (Caron et al., arXiv 2104.14294, appendix).

    Each image yields two global views and several local views. The default values are those of the authors' code.

    Args:
        global_size: Image size of the global views in pixels.
        local_size: Image size of the local views in pixels.
        local_crops: Number of local views.
        global_scale: Smallest and largest area of a global crop, as fractions of the image area.
        local_scale: Smallest and largest area of a local crop, as fractions of the image area.

    Returns:
        One `Augmentation` per view; the two global views come first.
    """
    jitter = ColorJitter(0.4, 0.4, 0.2, 0.1, probability=0.8)

    def view(scale, size, **more):
        return Augmentation(RandomResizedCrop(scale), jitter=jitter, gray=0.2, image_size=size, **more)

    return (
        view(global_scale, global_size, blur=1.0),
        view(global_scale, global_size, blur=0.1, solarize=0.2),
        *[view(local_scale, local_size, blur=0.5)] * local_crops,
    )
