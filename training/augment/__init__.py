"""Augmentation of training images.

Everything here is a function of the images and of seeds and holds no random state: the same image and seed give the
same result in any process, at any step, in any batch. That is what lets an interrupted epoch be continued from its
middle.
"""

from keras_vit.training.augment.augmentation import Augmentation, multi_crop
from keras_vit.training.augment.crops import CentreCrop, RandomResizedCrop, SimpleRandomCrop
from keras_vit.training.augment.motion import affine
from keras_vit.training.augment.policies import AutoAugment, ColorJitter, RandAugment, ThreeAugment

__all__ = [
    "Augmentation",
    "AutoAugment",
    "CentreCrop",
    "ColorJitter",
    "RandAugment",
    "RandomResizedCrop",
    "SimpleRandomCrop",
    "ThreeAugment",
    "affine",
    "multi_crop",
]
