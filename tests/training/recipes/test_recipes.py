"""Check the recipes against the published numbers, and the command that prints, changes and runs them."""

import argparse
import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import training
from keras_vit.cli import train as command
from keras_vit.models.registry import builders, variant
from keras_vit.training.recipes import changed, fields_of, parsed
from keras_vit.training.recipes.base import deferred_images
from tests.training.pictures import write_folder

# By recipe: highest learning rate, weight decay, stochastic depth, alphas of MixUp and CutMix, batch size, epochs.
PUBLISHED = {
    "vit_b16_imagenet": (3e-3, 0.3, 0, 0, 0, 4096, 300),
    "vit_l16_imagenet21k": (1e-3, 0.03, 0, 0, 0, 4096, 90),
    "vit_b32_jft": (8e-4, 0.1, 0, 0, 0, 4096, 7),
    "vit_l32_jft": (6e-4, 0.1, 0, 0, 0, 4096, 7),
    "vit_l16_jft": (4e-4, 0.1, 0, 0, 0, 4096, 14),
    "vit_h14_jft": (3e-4, 0.1, 0, 0, 0, 4096, 14),
    "vit_b16_finetune_384": (0.03, 0, 0, 0, 0, 512, None),
    "vit_s16_augreg_none": (1e-3, 0.1, 0, 0, 0, 4096, 300),
    "vit_ti16_augreg_light1": (1e-3, 0.1, 0, 0, 0, 4096, 300),
    "vit_s32_augreg_light2": (1e-3, 0.1, 0, 0.2, 0, 4096, 300),
    "vit_b32_augreg_medium1": (1e-3, 0.1, 0, 0.2, 0, 4096, 300),
    "vit_b16_augreg_medium2": (1e-3, 0.1, 0, 0.5, 0, 4096, 300),
    "vit_l16_augreg_strong1": (1e-3, 0.1, 0, 0.5, 0, 4096, 300),
    "vit_s16_augreg_strong2": (1e-3, 0.1, 0, 0.8, 0, 4096, 300),
    "vit_s16_better_90": (1e-3, 0.1, 0, 0.2, 0, 1024, 90),
    "vit_s16_better_150": (1e-3, 0.1, 0, 0.2, 0, 1024, 150),
    "vit_s16_better_300": (1e-3, 0.1, 0, 0.2, 0, 1024, 300),
    "deit_ti16": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_s16": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_b16": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_ti16_distilled": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_s16_distilled": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_b16_distilled": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "deit_b16_finetune_384": (5e-6, 1e-8, 0.1, 0.8, 1.0, 512, 30),
    "deit3_s16_imagenet": (4e-3, 0.05, 0.05, 0.8, 1.0, 2048, 800),
    "deit3_b16_imagenet": (3e-3, 0.05, 0.2, 0.8, 1.0, 2048, 800),
    "deit3_l16_imagenet": (3e-3, 0.05, 0.45, 0.8, 1.0, 2048, 800),
    "deit3_h14_imagenet": (3e-3, 0.05, 0.6, 0.8, 1.0, 2048, 800),
    "deit3_b16_imagenet_finetune_224": (1e-5, 0.1, 0.2, 0.8, 1.0, 512, 20),
    "deit3_l16_imagenet_finetune_224": (1e-5, 0.1, 0.45, 0.8, 1.0, 512, 20),
    "deit3_h14_imagenet_finetune_224": (1e-5, 0.1, 0.55, 0.8, 1.0, 512, 20),
    "deit3_s16_imagenet_finetune_384": (1e-5, 0.1, 0, 0.8, 1.0, 512, 20),
    "deit3_b16_imagenet_finetune_384": (1e-5, 0.1, 0.15, 0.8, 1.0, 512, 20),
    "deit3_l16_imagenet_finetune_384": (1e-5, 0.1, 0.4, 0.8, 1.0, 512, 20),
    "deit3_s16_imagenet21k": (1e-3, 0.02, 0.05, 0, 1.0, 2048, 240),
    "deit3_b16_imagenet21k": (1e-3, 0.02, 0.1, 0, 1.0, 2048, 240),
    "deit3_l16_imagenet21k": (1e-3, 0.02, 0.3, 0, 1.0, 2048, 240),
    "deit3_h14_imagenet21k": (1e-3, 0.02, 0.5, 0, 1.0, 2048, 90),
    "deit3_s16_imagenet21k_finetune_224": (3e-4, 0.02, 0.05, 0, 1.0, 2048, 50),
    "deit3_b16_imagenet21k_finetune_224": (3e-4, 0.02, 0.15, 0, 1.0, 2048, 50),
    "deit3_l16_imagenet21k_finetune_224": (3e-4, 0.02, 0.4, 0, 1.0, 2048, 50),
    "deit3_h14_imagenet21k_finetune_224": (3e-4, 0.02, 0.45, 0, 1.0, 2048, 50),
    "vit_s32_sam": (3e-3, 0.3, 0, 0, 0, 4096, 300),
    "vit_s16_sam": (3e-3, 0.3, 0, 0, 0, 4096, 300),
    "vit_b32_sam": (3e-3, 0.3, 0, 0, 0, 4096, 300),
    "vit_b16_sam": (3e-3, 0.3, 0, 0, 0, 4096, 300),
    "mobilevit_xxs": (2e-3, 0.01, 0, 0, 0, 1024, 300),
    "mobilevit_xs": (2e-3, 0.01, 0, 0, 0, 1024, 300),
    "mobilevit_s": (2e-3, 0.01, 0, 0, 0, 1024, 300),
    "mobilevitv2_050": (0.009, 0.004, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_075": (0.009, 0.008, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_100": (0.0075, 0.013, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_125": (0.0049, 0.020, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_150": (0.0035, 0.029, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_175": (0.0026, 0.039, 0, 0.2, 1.0, 1024, 300),
    "mobilevitv2_200": (0.0020, 0.050, 0, 0.2, 1.0, 1024, 300),
    "mobile_former_508m": (1e-3, 0.20, 0, 0.2, 0, 1024, 450),
    "mobile_former_294m": (1e-3, 0.20, 0, 0.2, 0, 1024, 450),
    "mobile_former_214m": (9e-4, 0.15, 0, 0.2, 0, 1024, 450),
    "mobile_former_151m": (9e-4, 0.10, 0, 0.2, 0, 1024, 450),
    "mobile_former_96m": (8e-4, 0.10, 0, 0, 0, 1024, 450),
    "mobile_former_52m": (8e-4, 0.10, 0, 0.2, 0, 1024, 450),
    "mobile_former_26m": (8e-4, 0.08, 0, 0.2, 0, 1024, 450),
    "efficientvit_b1": (2e-3, 0.1, 0.05, 0.1, 0.1, 1024, 320),
    "efficientvit_b2": (2e-3, 0.1, 0.05, 0.1, 0.1, 1024, 320),
    "efficientvit_b3": (2e-3, 0.1, 0.1, 0.3, 0.3, 1024, 320),
    "efficientvit_l1": (1.2e-3, 0.1, 0.1, 0.2, 0.2, 1024, 320),
    "efficientvit_l2": (1.2e-3, 0.1, 0.1, 0.4, 0.4, 1024, 320),
    "efficientvit_l3": (1.2e-3, 0.1, 0.1, 0.6, 0.6, 1024, 320),
    "vit_small_data_64": (1e-3, 0.05, 0.1, 1.0, 1.0, 128, 100),
    "vit_small_data_32": (1e-3, 0.05, 0.1, 1.0, 1.0, 128, 100),
    "mixer_b16_imagenet": (1e-3, 0.1, 0.1, 0.5, 0, 4096, 300),
    "mixer_l16_imagenet": (1e-3, 0.1, 0.1, 0.5, 0, 4096, 300),
    "mixer_b16_imagenet21k": (1e-3, 0.1, 0.1, 0.2, 0, 4096, 300),
    "mixer_l16_imagenet21k": (1e-3, 0.1, 0.1, 0.5, 0, 4096, 300),
    "convmixer_1536_20": (0.01, 2e-5, 0, 0.5, 0.5, 640, 150),
    "convmixer_768_32": (0.01, 2e-5, 0, 0.5, 0.5, 640, 300),
    "cait_xxs24": (1e-3, 0.05, 0.05, 0.8, 1.0, 1024, 400),
    "cait_xs24": (1e-3, 0.05, 0.05, 0.8, 1.0, 1024, 400),
    "cait_s24": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 400),
    "cait_s36": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 400),
    "xcit_small12_p16": (1e-3, 0.05, 0.05, 0.8, 1.0, 1024, 400),
    "coatnet_0": (1e-3, 0.05, 0.2, 0.8, 0, 4096, 300),
    "coatnet_1": (1e-3, 0.05, 0.3, 0.8, 0, 4096, 300),
    "coatnet_2": (1e-3, 0.05, 0.5, 0.8, 0, 4096, 300),
    "coatnet_3": (1e-3, 0.05, 0.7, 0.8, 0, 4096, 300),
    "tnt_s": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "cpvt_ti": (2e-3, 0.05, 0.1, 0.8, 1.0, 2048, 300),
    "cpvt_s_gap": (2e-3, 0.05, 0.1, 0.8, 1.0, 2048, 300),
    "twins_pcpvt_s": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 300),
    "twins_svt_b": (1e-3, 0.05, 0.3, 0.8, 1.0, 1024, 300),
    "twins_svt_l": (1e-3, 0.05, 0.5, 0.8, 1.0, 1024, 300),
    "cvt_13": (0.02, 0.05, 0.1, 0.8, 1.0, 2048, 300),
    "cvt_21": (0.02, 0.1, 0.1, 0.8, 1.0, 2048, 300),
    "pvt_t": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "pvt_s": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "pvt_l": (1e-3, 0.05, 0.3, 0.8, 1.0, 1024, 300),
    "pvtv2_b0": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "pvtv2_b2_li": (1e-3, 0.05, 0.1, 0.8, 1.0, 1024, 300),
    "pvtv2_b5": (1e-3, 0.05, 0.3, 0.8, 1.0, 1024, 300),
    **{f"efficientvit_m{size}": (4e-3, 0.025, 0, 0.8, 1.0, 2048, 300) for size in range(6)},
    "swin_t": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 300),
    "swin_s": (1e-3, 0.05, 0.3, 0.8, 1.0, 1024, 300),
    "swin_b": (1e-3, 0.05, 0.5, 0.8, 1.0, 1024, 300),
    "swin_b_finetune_384": (4e-5, 1e-8, 0.5, 0.8, 1.0, 1024, 30),
    "swin_b_in22k_finetune": (4e-5, 1e-8, 0.2, 0.8, 1.0, 1024, 30),
    "swinv2_t": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 300),
    "swinv2_t_window16": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 300),
    "swinv2_b": (1e-3, 0.05, 0.5, 0.8, 1.0, 1024, 300),
    "swinv2_b_in22k_finetune": (4e-5, 1e-8, 0.2, 0.8, 1.0, 1024, 30),
    "convnext_t": (4e-3, 0.05, 0.1, 0.8, 1.0, 4096, 300),
    "convnext_s": (4e-3, 0.05, 0.4, 0.8, 1.0, 4096, 300),
    "convnext_b": (4e-3, 0.05, 0.5, 0.8, 1.0, 4096, 300),
    "convnext_l": (4e-3, 0.05, 0.5, 0.8, 1.0, 4096, 300),
    "convnext_xl_in22k": (4e-3, 0.05, 0.2, 0.8, 1.0, 4096, 90),
    "convnext_b_finetune_384": (5e-5, 1e-8, 0.8, 0, 0, 512, 30),
    "convnext_l_in22k_finetune": (5e-5, 1e-8, 0.3, 0, 0, 512, 30),
    "convnext_xl_in22k_finetune_384": (5e-5, 1e-8, 0.4, 0, 0, 512, 30),
    "nat_mini": (1e-3, 0.05, 0.2, 0.8, 1.0, 1024, 300),
    "nat_base": (1e-3, 0.05, 0.5, 0.8, 1.0, 1024, 300),
    "dinat_small": (1e-3, 0.05, 0.3, 0.8, 1.0, 1024, 300),
    "t2t_7": (1e-3, 0.03, 0.1, 0.8, 1.0, 512, 300),
    "t2t_24": (5e-4, 0.065, 0.1, 0.8, 1.0, 512, 300),
    "t2t_t_14": (5e-4, 0.05, 0.1, 0.8, 1.0, 512, 300),
    "mvitv2_t": (2.5e-4, 0.05, 0.1, 0.8, 1.0, 256, 300),
    "mvitv2_b": (2.5e-4, 0.05, 0.3, 0.8, 1.0, 256, 300),
}
# By recipe: further settings that are characteristic of the paper.
DETAILS = {
    "vit_b16_imagenet": {"clip_norm": 1.0, "warmup_steps": 10_000, "model_settings": {"dropout_rate": 0.1}},
    "vit_b16_imagenet21k": {"schedule": "linear", "final_learning_rate": 1e-5, "loss": "sigmoid", "head_bias": -10.0},
    "vit_b16_finetune_384": {"optimizer": "sgd", "steps": 20_000, "warmup_steps": 500, "pipeline.image_size": 384},
    "vit_s16_augreg_strong2": {"loss": "sigmoid", "head_bias": -6.9, "warmup_steps": 10_000},
    "vit_s16_better_90": {"loss": "softmax", "clip_norm": 1.0},
    "deit_s16": {
        "warmup_epochs": 5,
        "warmup_learning_rate": 1e-6,
        "final_learning_rate": 1e-5,
        "cooldown_epochs": 10,
        "erase": 0.25,
        "repeats": 3,
        "label_smoothing": 0.1,
        "ema_decay": 0.99996,
    },
    "deit_b16_finetune_384": {"final_learning_rate": 5e-6, "pipeline.image_size": 384},
    "deit3_b16_imagenet": {
        "optimizer": "lamb",
        "pipeline.image_size": 192,
        "loss": "sigmoid",
        "label_smoothing": 0.0,
        "repeats": 3,
    },
    "deit3_h14_imagenet21k": {"pipeline.image_size": 128, "optimizer": "lamb", "label_smoothing": 0.1},
    "deit3_s16_imagenet_finetune_384": {"optimizer": "adamw", "erase": 0.0, "repeats": 1},
    "vit_s32_sam": {"sam": 0.05},
    "vit_s16_sam": {"sam": 0.1},
    "vit_b32_sam": {"sam": 0.15},
    "vit_b16_sam": {"sam": 0.2},
    "mobilevit_s": {"warmup_learning_rate": 2e-4, "final_learning_rate": 2e-4, "ema_decay": 0.9995},
    "mobilevitv2_100": {"final_learning_rate": 0.00075, "clip_norm": 10.0, "erase": 0.25},
    "mobile_former_508m": {"model_settings": {"dropout_rate": 0.3}, "erase": 0.2},
    "mobile_former_26m": {"model_settings": {"dropout_rate": 0.1}, "erase": 0.0},
    "efficientvit_l3": {"erase": 0.2, "clip_norm": 2.0, "warmup_epochs": 20, "ema_decay": 0.9998, "loss": "sigmoid"},
    "vit_small_data_64": {
        "pipeline.image_size": 64,
        "mix_probability": 0.5,
        "erase": 0.25,
        "repeats": 3,
        "label_smoothing": 0.1,
        "warmup_epochs": 10,
        "policy": training.AutoAugment(),
    },
    "mixer_b16_imagenet": {
        "schedule": "linear",
        "warmup_steps": 10_000,
        "final_learning_rate": 1e-5,
        "clip_norm": 1.0,
        "loss": "sigmoid",
        "head_bias": -6.9,
        "label_smoothing": 0.0,
        "policy": training.RandAugment(2, 15, 0.0, 30.0, increasing=False, probability=1.0),
        "top1": 76.44,
    },
    "mixer_b16_imagenet21k": {
        "policy": training.RandAugment(2, 10, 0.0, 30.0, increasing=False, probability=1.0),
        "top1": 80.64,
    },
    "mixer_l16_imagenet21k": {
        "policy": training.RandAugment(2, 20, 0.0, 30.0, increasing=False, probability=1.0),
        "top1": 82.89,
    },
    "convmixer_768_32": {"optimizer_settings": {"epsilon": 1e-3}, "warmup_epochs": 120.0, "erase": 0.25, "repeats": 1},
    "cait_xs24": {"pipeline.image_size": 224, "cooldown_epochs": 10, "repeats": 3, "ema_decay": 0.99996, "top1": 81.8},
    "cait_s36": {"top1": 83.3},
    "xcit_small12_p16": {"warmup_epochs": 5, "final_learning_rate": 1e-5, "erase": 0.25, "clip_norm": None},
    "coatnet_3": {
        "warmup_steps": 10_000,
        "schedule": "cosine",
        "final_learning_rate": 1e-5,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "ema_decay": None,
        "policy": training.RandAugment(2, 15, 0.0, 30.0, increasing=False, probability=1.0),
        "top1": 84.5,
    },
    "efficientvit_m4": {"adaptive_clip": 0.02, "warmup_epochs": 5, "erase": 0.25, "repeats": 3},
    "tnt_s": {"ema_decay": 0.99996, "repeats": 3, "warmup_epochs": 5, "warmup_learning_rate": 1e-6, "top1": 81.5},
    "cpvt_ti_gap": {"repeats": 3, "clip_norm": None, "top1": 74.9},
    "twins_svt_s": {"repeats": 1, "clip_norm": 5.0, "ema_decay": None, "cooldown_epochs": 10, "top1": 81.7},
    "cvt_13": {"repeats": 1, "label_smoothing": 0.1, "erase": 0.25},
    "pvtv2_b2": {"warmup_epochs": 5, "cooldown_epochs": 10, "repeats": 3, "clip_norm": None, "ema_decay": None},
    "pvtv2_b3": {"clip_norm": 1.0, "final_learning_rate": 1e-5, "label_smoothing": 0.1, "erase": 0.25},
    "swin_t": {
        "warmup_epochs": 20,
        "warmup_learning_rate": 1e-6,
        "final_learning_rate": 1e-5,
        "clip_norm": 5.0,
        "erase": 0.25,
        "repeats": 1,
        "label_smoothing": 0.1,
    },
    "swin_b_finetune_384": {"pipeline.image_size": 384, "weights": "ms_in1k", "final_learning_rate": 4e-7},
    "convnext_t": {"warmup_epochs": 20, "clip_norm": None, "ema_decay": 0.9999, "erase": 0.25, "repeats": 1},
    "convnext_b_finetune_384": {"layer_decay": 0.7, "pipeline.image_size": 384, "warmup_epochs": 0},
    "convnext_xl_in22k_finetune": {"layer_decay": 0.8, "ema_decay": 0.9999, "weights": "fb_in22k"},
    "nat_tiny": {
        "warmup_epochs": 20,
        "warmup_learning_rate": 1e-6,
        "final_learning_rate": 5e-6,
        "cooldown_epochs": 10,
        "clip_norm": 5.0,
        "erase": 0.25,
        "repeats": 1,
        "top1": 83.2,
    },
    "dinat_tiny": {"top1": 82.7},
    "t2t_14": {
        "warmup_epochs": 10,
        "final_learning_rate": 1e-5,
        "cooldown_epochs": 10,
        "clip_norm": None,
        "ema_decay": 0.99996,
        "erase": 0.25,
        "repeats": 1,
        "model_settings": {"drop_path_rate": 0.1, "token_dropout_rate": 0.1},
    },
    "mvitv2_s": {
        "warmup_epochs": 70,
        "final_learning_rate": 1e-6,
        "learning_rate_batch": 256,
        "policy": training.RandAugment(6),
        "clip_norm": 1.0,
        "repeats": 1,
    },
}


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name):
    recipe = training.recipe(name)
    numbers, images = recipe.hyperparameters, recipe.pipeline
    found = (
        numbers.peak_learning_rate(images.batch_size),
        numbers.weight_decay,
        recipe.model_settings.get("drop_path_rate", 0),
        images.augmentation.mixup,
        images.augmentation.cutmix,
        images.batch_size,
    )
    assert found == pytest.approx(PUBLISHED[name][:-1], rel=1e-9) and numbers.epochs == PUBLISHED[name][-1]


@pytest.mark.parametrize("name", DETAILS)
def test_further_published_settings(name):
    recipe = training.recipe(name)
    # Setting a field to the value that it already has changes nothing; an unknown field is an error.
    assert changed(recipe, DETAILS[name]) == recipe


@pytest.mark.parametrize("name", training.list_recipes())
def test_the_model_of_each_recipe_accepts_its_settings(name):
    recipe = training.recipe(name)
    builder = getattr(keras_vit, recipe.model if recipe.model in builders() else variant(recipe.model).function_name)
    inspect.signature(builder).bind(**recipe.model_settings)
    if recipe.weights is not None:
        assert recipe.weights in [record.tag for record in keras_vit.list_weights(recipe.model)]
    assert recipe.hyperparameters.make_schedule(recipe.pipeline.batch_size, 2000)(0) >= 0


def test_the_schedule_matches_the_paper_from_first_to_last_step():
    steps = 1251
    schedule = training.recipe("deit_s16").hyperparameters.make_schedule(1024, steps)
    rates = [float(schedule(step)) for step in (0, 5 * steps, 300 * steps, 310 * steps)]
    assert rates == pytest.approx([1e-6, 1e-3, 1e-5, 1e-5], rel=1e-4)
    middle = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + np.cos(np.pi * (150 - 5) / 295))
    assert float(schedule(150 * steps)) == pytest.approx(middle, rel=1e-4)
    assert training.recipe("deit_s16").hyperparameters.total_steps(steps) == 310 * steps


def test_every_paper_has_a_recipe_and_names_are_unique():
    names = training.list_recipes()
    assert len(names) == len(set(names)) and set(PUBLISHED) <= set(names)
    assert training.list_recipes("deit3*finetune_384") == [
        f"deit3_{size}16_imagenet_finetune_384" for size in ("b", "l", "s")
    ]
    with pytest.raises(ValueError, match=r"no recipe named 'deit_s15'.*deit_s16"):
        training.recipe("deit_s15")


def test_a_recipe_is_found_by_its_module_and_model(capsys):
    assert training.recipe("mobilevit", "mobilevit_s") == training.recipe("mobilevit_s")
    run("--recipe", "mobilevit", "--model", "mobilevit_xs", "--dry-run")
    assert "model = 'mobilevit_xs'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="several recipes; choose one of vit_b16_imagenet, vit_b16_imagenet21k"):
        training.recipe("vit", "vit_b16")
    with pytest.raises(ValueError, match="'deit' has no recipe for 'vit_b16'; it has deit_ti16"):
        training.recipe("deit", "vit_b16")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("None", None),
        ("sgd", "sgd"),
        ("-1e-3", -1e-3),
        ("(1, 2)", (1, 2)),
        ('{"momentum": 0.9}', {"momentum": 0.9}),
        ("RandAugment(2, magnitude=5.0)", training.RandAugment(2, magnitude=5.0)),
        ("MultiScale(sizes=(128, 160))", training.MultiScale((128, 160))),
    ],
)
def test_values_are_parsed_from_text(text, value):
    assert parsed(text) == value
    assert parsed(str(value)) == value


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "print(1)", "RandAugment(open('x'))"])
def test_code_in_a_value_is_not_run(text):
    with pytest.raises(ValueError, match="is not a valid value"):
        parsed(text)


def test_every_field_can_be_changed():
    recipe = training.recipe("deit_s16")
    for name, value in fields_of(recipe).items():
        assert changed(recipe, {name: value}) == recipe
    # Several fields can be changed in one call.
    other = changed(recipe, {"mixup": 0.5, "learning_rate": 1, "steps": 10, "policy": training.AutoAugment()})
    assert other.pipeline.augmentation.mixup == 0.5 and other.pipeline.augmentation.policy == training.AutoAugment()
    assert other.hyperparameters.steps == 10 and other.hyperparameters.epochs is None
    assert isinstance(other.hyperparameters.learning_rate, float)
    assert changed(recipe, {"augmentation": None}).pipeline.augmentation is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixupp": 0.1}, "no field 'mixupp'. The nearest are .*mixup"),
        ({"image_size": 8}, r"is ambiguous; use the full name: .*pipeline\.image_size"),
        ({"mixup": "much"}, "mixup must be float or int; received 'much'"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"learning_rate": True}, "received True"),
        ({"schedule": "step"}, "schedule must be one of cosine"),
        ({"mixup": -1.0}, "received -1"),
    ],
)
def test_invalid_changes_are_rejected(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(training.recipe("deit_s16"), changes)


def test_settings_printed_by_a_dry_run_can_be_parsed_again(capsys, tmp_path):
    run("--recipe", "mobilevit_s", "--dry-run", "--learning-rate", 0.5, "--set", "augmentation.mixup=0.3")
    lines = [line for line in capsys.readouterr().out.splitlines() if " = " in line]
    settings = dict(line.split(" = ", 1) for line in lines)
    assert settings["hyperparameters.learning_rate"] == "0.5" and settings["pipeline.augmentation.mixup"] == "0.3"
    assert settings["pipeline.multi_scale"].startswith("MultiScale(sizes=(160,")
    again = changed(training.recipe("deit_s16"), {name: parsed(text) for name, text in settings.items()})
    assert again == changed(training.recipe("mobilevit_s"), {"learning_rate": 0.5, "augmentation.mixup": 0.3})

    run("--recipe", "mobilevit_s", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["hyperparameters.learning_rate"] == 2e-3
    run("--list")
    assert capsys.readouterr().out.splitlines() == training.list_recipes()


def test_another_model_uses_its_own_image_settings(capsys):
    run("--recipe", "transfer", "--model", "mobilevit_s", "--dry-run")
    settings = dict(line.split(" = ", 1) for line in capsys.readouterr().out.splitlines() if " = " in line)
    assert settings["model"] == "'mobilevit_s'" and settings["weights"] == "None"
    assert settings["pipeline.image_size"] == "256" and settings["pipeline.statistics"] == "'model'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --recipe NAME or --model NAME"),
        (("--recipe", "digits_vit"), "--run-dir FOLDER"),
        (("--recipe", "digits_vit", "--set", "mixup", "--dry-run"), "FIELD=VALUE; received 'mixup'"),
    ],
)
def test_incomplete_arguments_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)


# Small enough to train within seconds.
TOKENS = {"patch_size": 8, "width": 16, "depth": 1, "num_heads": 1}
SMALL = ["--warmup-epochs", 0, "--set", f"model_settings={TOKENS}"]
CHANGES = {"warmup_epochs": 0, "model_settings": TOKENS}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Train a small model on the digits for two epochs, and return the run's folder."""
    run_dir = tmp_path_factory.mktemp("taught") / "run"
    run("--recipe", "digits_vit", "--run-dir", run_dir, "--epochs", 2, *SMALL)
    return run_dir


def test_the_command_trains_and_prints_the_accuracy(taught, capsys):
    run("--recipe", "digits_vit", "--run-dir", taught, "--epochs", 2, *SMALL, "--resume")
    said = capsys.readouterr().out
    assert said.startswith(f"{taught / 'best.keras'}: top-1 ") and "validation images" in said
    written = json.loads((taught / "run.json").read_text())
    assert written["recipe"]["model"] == "ViT" and written["settings"]["epochs"] == 2


def test_a_run_with_another_recipe_is_not_resumed(taught):
    with pytest.raises(ValueError, match=r"learning_rate was 0\.002 and is now 0\.5"):
        run("--recipe", "digits_vit", "--run-dir", taught, "--epochs", 2, *SMALL, "--learning-rate", 0.5, "--resume")


def test_a_student_learns_from_the_model_of_another_run(taught, tmp_path):
    student = {**TOKENS, "distilled": True, "distillation_outputs": True}
    given = ["--recipe", "digits_deit_distilled", "--run-dir", tmp_path / "run", "--epochs", 1, "--warmup-epochs", 0]
    given += ["--set", f"model_settings={student}"]
    with pytest.raises(ValueError, match="second one learns from a teacher"):
        run(*given)
    run(*given, "--teacher", taught / "best.keras")
    student = keras.models.load_model(tmp_path / "run" / "best.keras", compile=False)
    assert len(student.outputs) == 2


def test_a_run_starts_from_the_weights_of_another_run_at_another_image_size(taught, tmp_path):
    data = training.digits(image_size=24)
    recipe = dataclasses.replace(training.recipe("digits_vit"), weights=str(taught / "best.keras"))
    recipe = changed(recipe, {**CHANGES, "epochs": 1, "learning_rate": 1e-9})
    result = training.train(recipe, data, tmp_path / "run", verbose=0)
    before = keras.models.load_model(taught / "best.keras", compile=False)
    after = keras.models.load_model(result.best_model, compile=False)
    kernels = [model.get_layer("block_0").mlp.weights[0].numpy() for model in (before, after)]
    np.testing.assert_allclose(*kernels, atol=1e-6)
    assert after.input_shape == (None, 24, 24, 1)


def test_a_recipe_with_a_number_of_steps_ends_within_an_epoch(tmp_path):
    recipe = changed(training.recipe("digits_vit"), {**CHANGES, "steps": 23, "ema_decay": 0.9})
    result = training.train(recipe, "digits", tmp_path / "run", verbose=0)
    model = keras.models.load_model(result.best_model)
    assert len(result.history) == 2 and int(model.optimizer.iterations) <= 23


def test_the_sigmoid_loss_trains_on_logits(tmp_path):
    recipe = changed(training.recipe("digits_vit"), {**CHANGES, "epochs": 2, "loss": "sigmoid", "sam": 0.05})
    result = training.train(recipe, "digits", tmp_path / "run", verbose=0)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    with pytest.raises(ValueError, match="sigmoid loss takes logits"):
        training.fit(
            keras_vit.ViT(classes=10, input_shape=(8, 8, 1), patch_size=4, width=8, depth=1, num_heads=1),
            training.digits(),
            epochs=1,
            learning_rate=1e-3,
            loss="sigmoid",
            run_dir=tmp_path / "other",
        )


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
def test_a_recipe_with_several_image_sizes_trains(tmp_path, recomputed):
    write_folder(tmp_path / "pictures", classes=2, images=15)
    small = {"stem_channels": 4, "channels": (4, 4, 8, 8, 8), "head_channels": 16, "expansion": 1, "depths": (1, 1, 1)}
    changes = {
        "model": "MobileViT",
        "model_settings": {**small, "widths": (8, 8, 8)},
        "pipeline.image_size": 64,
        "batch_size": 4,
        "multi_scale": training.MultiScale((32, 64), multiple_of=1),
        "epochs": 2,
        "warmup_steps": 0,
    }
    recipe = changed(training.recipe("mobilevit_s"), changes)
    result = training.train(recipe, str(tmp_path / "pictures"), tmp_path / "run", verbose=0, recomputed=recomputed)
    assert len(result.history) == 2 and np.isfinite(result.history[-1]["loss"])
    assert keras.models.load_model(result.best_model, compile=False).input_shape == (None, 64, 64, 3)


def test_a_recipe_for_a_missing_model_hides_no_others(monkeypatch):
    from keras_vit.training import recipes

    missing = recipes._RECIPES["tnt_s"]
    orphan = dataclasses.replace(missing, model="gone", pipeline=deferred_images("gone", batch_size=8))
    monkeypatch.setitem(recipes._RECIPES, "orphan", orphan)
    assert "orphan" in training.list_recipes() and training.recipe("tnt_s").pipeline.image_size == 224
    with pytest.raises(ValueError, match="There is no model named 'gone'"):
        training.recipe("orphan")
