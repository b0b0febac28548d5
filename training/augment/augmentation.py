"""Describe everything that happens to a training image."""

from __future__ import annotations

from dataclasses import dataclass, field

from keras_vit.training.augment import pixels
from keras_vit.training.augment.crops import CentreCrop, RandomResizedCrop, SimpleRandomCrop
from keras_vit.training.augment.draws import Draws, on_some
from keras_vit.training.augment.erasing import erase
from keras_vit.training.augment.mixing import mix
from keras_vit.training.augment.policies import AutoAugment, ColorJitter, RandAugment, ThreeAugment
from keras_vit.training.lazy_modules import tf

_PROBABILITIES = ("flip", "gray", "blur", "solarize", "erase", "mix_probability", "switch_probability")


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image, in the order of the attributes.

    The default is the crop and flip that nearly every recipe begins with. DeiT's recipe is
    `Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)`; the color jitter that its
    settings name is not used beside RandAugment.

    Attributes:
        crop: `RandomResizedCrop`, `SimpleRandomCrop` or `CentreCrop`.
        flip: Probability of being mirrored, left for right.
        policy: `RandAugment`, `AutoAugment`, `ThreeAugment` or None.
        jitter: `ColorJitter` or None.
        gray: Probability of becoming gray.
        blur: Probability of being blurred, with a deviation of 0.1 to 2 pixels.
        solarize: Probability that values of at least 128 are inverted.
        erase: Probability that a box becomes noise.
        mixup: Alpha of MixUp's Beta distribution; 0 turns it off.
        cutmix: Alpha of CutMix's; 0 turns it off.
        mix_probability: Probability that a batch is mixed by one of the two.
        switch_probability: Probability that it is mixed by CutMix, if both are on.
        repeats: How often an image is used in an epoch, each time with other draws (Hoffer et al., arXiv 1901.09335).
            The number of images in an epoch stays the same, so fewer of them are different.
        image_size: Image size of this view, if it differs from that of the data.
    """

    crop: RandomResizedCrop | SimpleRandomCrop | CentreCrop = field(default_factory=RandomResizedCrop)
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
                raise ValueError(f"{name} is a probability, between 0 and 1; received {getattr(self, name)}.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is an alpha of at least 0; received {getattr(self, name)}.")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1; received repeats={self.repeats}.")

    @property
    def needs_colors(self) -> bool:
        """Whether the augmentation works on images of three channels only."""
        return bool(self.policy or self.jitter or self.gray or self.blur or self.solarize)

    @property
    def mixes(self) -> bool:
        """Whether the augmentation combines two images into one."""
        return bool(self.mixup or self.cutmix)

    def of_images(self, images: tf.Tensor, numbers: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Apply everything between the crop and the mixing.

        Args:
            images: (batch, height, width, channels), uint8.
            numbers: (batch, numbers): rows of `numbers_of` the images' seeds.
            seeds: (batch, 2), int64.

        Returns:
            Images, float32, in [0, 255] except in erased boxes.
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
        """Mix the images of a batch.

        Args:
            images: (batch, height, width, channels), float32.
            labels: (batch, classes), one-hot, float32.
            seed: (2,), int64.
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
    """Return the augmentations of DINO: two large and several small views of each image (arXiv 2104.14294, appendix).

    `local_crops=1` gives three views in all. The numbers are those of the authors' code.
    """
    jitter = ColorJitter(0.4, 0.4, 0.2, 0.1, probability=0.8)

    def view(scale, size, **more):
        return Augmentation(RandomResizedCrop(scale), jitter=jitter, gray=0.2, image_size=size, **more)

    return (
        view(global_scale, global_size, blur=1.0),
        view(global_scale, global_size, blur=0.1, solarize=0.2),
        *[view(local_scale, local_size, blur=0.5)] * local_crops,
    )
