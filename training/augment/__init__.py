"""Augment training images.

Every augmentation is a function of the images and their seeds and holds no random state: the same image and seed give
the same result in any process, at any step and in any batch. Training can therefore resume in the middle of an epoch.
"""

from keras_vit.training.augment.augmentation import Augmentation, multi_crop
from keras_vit.training.augment.crops import CenterCrop, RandomAffine, RandomResizedCrop, SimpleRandomCrop
from keras_vit.training.augment.motion import affine
from keras_vit.training.augment.policies import AutoAugment, ColorJitter, RandAugment, ThreeAugment

__all__ = [
    "Augmentation",
    "AutoAugment",
    "CenterCrop",
    "ColorJitter",
    "RandAugment",
    "RandomAffine",
    "RandomResizedCrop",
    "SimpleRandomCrop",
    "ThreeAugment",
    "affine",
    "multi_crop",
]
