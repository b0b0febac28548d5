"""Augmentations that several recipes have."""

from keras_vit.training.augment import Augmentation, ColorJitter, RandAugment, RandomResizedCrop, ThreeAugment

INCEPTION = Augmentation(RandomResizedCrop(scale=(0.05, 1.0), interpolation="bilinear"))  # ViT's authors'.
DEIT = Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)
DEIT3 = Augmentation(policy=ThreeAugment(), jitter=ColorJitter(0.3, 0.3, 0.3), mixup=0.8, cutmix=1.0, repeats=3)
