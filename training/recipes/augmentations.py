"""Augmentations that several recipes share."""

from keras_vit.training.augment import Augmentation, ColorJitter, RandAugment, RandomResizedCrop, ThreeAugment

INCEPTION = Augmentation(RandomResizedCrop(scale=(0.05, 1.0), interpolation="bilinear"))  # As in ViT's code.
DEIT = Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)
DEIT3 = Augmentation(policy=ThreeAugment(), jitter=ColorJitter(0.3, 0.3, 0.3), mixup=0.8, cutmix=1.0, repeats=3)
