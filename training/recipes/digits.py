"""Small models of every family on scikit-learn's handwritten digits. They train within minutes on a CPU.

    keras-vit train --recipe digits_mobilevit --run-dir runs/digits
    keras-vit pretrain --recipe digits_mae --run-dir runs/mae
    keras-vit pretrain --recipe digits_dino --run-dir runs/dino
    keras-vit pretrain --recipe digits_tokenizer --run-dir runs/tokenizer
    keras-vit pretrain --recipe digits_beit --set tokenizer=runs/tokenizer/encoder.keras --run-dir runs/beit
    keras-vit pretrain --recipe digits_igpt --run-dir runs/igpt
    keras-vit train --recipe digits_deit_distilled --teacher runs/digits/best.keras --run-dir runs/distilled

The README has the accuracies that these recipes reach, and docs/self-supervised.md those of encoders that are trained
without labels: nearest neighbors classify 95.6 % of the test images with `digits_dino`, and 96.7 % with `digits_mae`.
"""

from keras_vit.models.image_facts import HALF, UNIT
from keras_vit.training.augment import Augmentation, RandomAffine
from keras_vit.training.data import Pipeline
from keras_vit.training.recipes.base import Recipe
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import DINO, IGPT, MAE, BEiT, InstanceDiscrimination, Tokenizer

_TOKENS = {"patch_size": 4, "width": 64, "depth": 4, "num_heads": 4, "drop_path_rate": 0.2}
_WINDOWS = {"channels": 32, "depths": (2, 2), "num_heads": (2, 4), "window": 4, "drop_path_rate": 0.2}
_PYRAMID = {
    "channels": (32, 64),
    "depths": (2, 2),
    "num_heads": (2, 4),
    "mlp_ratios": (4, 4),
    "reductions": (2, 1),
    "drop_path_rate": 0.1,
}
_NEIGHBORHOODS = {
    "channels": 32,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "kernel_size": 3,
    "drop_path_rate": 0.1,
}
_MODELS: dict[str, tuple[str, dict, int, int]] = {  # Builder, model settings, image size and epochs.
    "vit": ("ViT", _TOKENS, 16, 80),
    "deit": ("DeiT", _TOKENS, 16, 80),
    "deit_distilled": ("DeiT", {**_TOKENS, "distilled": True, "distillation_outputs": True}, 16, 80),
    "mobilevit": (
        "MobileViT",
        {
            "stem_channels": 16,
            "channels": (16, 24, 32, 48, 64),
            "head_channels": 128,
            "expansion": 2,
            "widths": (48, 64, 80),
            "depths": (1, 1, 1),
        },
        32,
        40,
    ),
    "mobile_former": (
        "MobileFormer",
        {
            "stem_channels": 8,
            "lite_row": (24, 12, 1),
            "rows": ((72, 16, 2), (48, 16, 1), (96, 32, 2), (96, 32, 1), (192, 64, 2), (256, 64, 1)),
            "num_tokens": 3,
            "token_width": 64,
            "head_width": 256,
        },
        32,
        40,
    ),
    "efficientvit": (
        "EfficientViT",
        {"channels": (8, 16, 32, 48, 64), "depths": (1, 1, 1, 1, 1), "head_channels": (128, 128)},
        32,
        40,
    ),
    "efficientvit_msra": (
        "EfficientViT_MSRA",
        {"channels": (32, 64, 96), "depths": (1, 1, 1), "num_heads": (2, 2, 2), "kernel_sizes": (3, 3)},
        64,
        40,
    ),
    "swin": ("Swin", _WINDOWS, 32, 80),
    "swinv2": ("SwinV2", _WINDOWS, 32, 80),
    # With few steps, a scale that starts at 1e-6 would stay too small.
    "convnext": (
        "ConvNeXt",
        {"channels": (32, 64), "depths": (2, 2), "kernel_size": 5, "layer_scale": 0.1, "drop_path_rate": 0.1},
        32,
        40,
    ),
    "mlp_mixer": (
        "MLPMixer",
        {
            "patch_size": 4,
            "width": 64,
            "depth": 4,
            "token_mlp_dim": 32,
            "channel_mlp_dim": 256,
            "drop_path_rate": 0.1,
        },
        16,
        80,
    ),
    "convmixer": ("ConvMixer", {"channels": 64, "depth": 4, "kernel_size": 5, "patch_size": 2}, 16, 40),
    "cait": ("CaiT", {**_TOKENS, "class_depth": 1, "drop_path_rate": 0.1, "layer_scale": 0.1}, 16, 80),
    "xcit": ("XCiT", {**_TOKENS, "class_depth": 1, "drop_path_rate": 0.1}, 16, 80),
    "cvt": (
        "CvT",
        {"channels": (32, 64), "depths": (1, 2), "num_heads": (2, 4), "drop_path_rate": 0.1},
        32,
        60,
    ),
    "tnt": (
        "TNT",
        {
            "patch_size": 8,
            "strides": 2,
            "width": 64,
            "pixel_width": 16,
            "depth": 4,
            "num_heads": 4,
            "pixel_heads": 2,
            "drop_path_rate": 0.1,
        },
        32,
        40,
    ),
    "cpvt": ("CPVT", _TOKENS, 16, 80),
    "cpvt_gap": ("CPVT", {**_TOKENS, "class_token": False}, 16, 80),
    "twins_pcpvt": ("Twins", _PYRAMID, 32, 80),
    "twins_svt": ("Twins", {**_PYRAMID, "window": 4}, 32, 80),
    "pvt": ("PVT", _PYRAMID, 32, 80),
    "pvtv2": ("PVTv2", _PYRAMID, 32, 80),
    "coatnet": (
        "CoAtNet",
        {
            "stem_channels": 16,
            "channels": (16, 24, 48, 64),
            "depths": (1, 1, 2, 1),
            "head_dim": 16,
            "representation_size": None,
        },
        64,
        40,
    ),
    "nat": ("NAT", _NEIGHBORHOODS, 32, 60),
    "dinat": ("NAT", {**_NEIGHBORHOODS, "dilations": (2, 1)}, 32, 60),
    "t2t": ("T2T", {"width": 64, "depth": 4, "num_heads": 4, "token_width": 32, "drop_path_rate": 0.1}, 64, 60),
    "mvitv2": ("MViTv2", {"channels": 32, "depths": (1, 2), "drop_path_rate": 0.1}, 32, 60),
}

RECIPES = {
    f"digits_{name}": Recipe(
        paper="the settings of keras_vit's authors",
        hardware="2 CPU cores",
        time="at most 5 minutes",
        data="digits",
        model=builder,
        model_settings=settings,
        pipeline=Pipeline(image_size=image_size, batch_size=64, statistics=UNIT, channels=1),
        hyperparameters=Hyperparameters(
            epochs=epochs,
            learning_rate=2e-3,
            warmup_epochs=5,
            weight_decay=0.05,
            clip_norm=1.0,
            ema_decay=0.98,
            distillation="soft",  # The teacher is nearly always right, so hard labels add little.
            label_smoothing=0.1,
        ),
    )
    for name, (builder, settings, image_size, epochs) in _MODELS.items()
}

_ENCODER = {"patch_size": 4, "width": 64, "depth": 4, "num_heads": 4}

RECIPES["digits_mae"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    data="digits",
    model="ViT",
    model_settings=_ENCODER,
    # Of 16 patches, a quarter says too little about a digit.
    method=MAE(mask_ratio=0.5, decoder_width=48, decoder_depth=2, decoder_heads=3),
    pipeline=Pipeline(
        image_size=16,
        batch_size=64,
        statistics=UNIT,
        channels=1,
        augmentation=Augmentation(RandomAffine(), flip=0.0),
    ),
    hyperparameters=Hyperparameters(
        epochs=350,
        learning_rate=2e-3,
        optimizer_settings={"beta_2": 0.95},
        warmup_epochs=20,
        weight_decay=0.05,
        clip_norm=None,
    ),
)

# Two large views, and two small ones of 8 x 8 pixels.
_VIEWS = (
    *[Augmentation(RandomAffine(), flip=0.0)] * 2,
    *[Augmentation(RandomAffine(scale=(0.6, 0.85)), flip=0.0, image_size=8)] * 2,
)

# There are few steps, in which the outputs must not become the same for all images. With a center that follows the
# teacher slowly, all images choose the same output. With a temperature of 0.04 from the start, all outputs stay equal.
RECIPES["digits_dino"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    time="at most 8 minutes",
    data="digits",
    model="ViT",
    model_settings=_ENCODER,
    method=DINO(
        prototypes=1024,
        hidden=512,
        bottleneck=64,
        teacher_temperature=0.02,
        final_teacher_temperature=0.05,
        temperature_epochs=25,
        center_momentum=0.5,
        teacher_momentum=0.99,
    ),
    pipeline=Pipeline(image_size=16, batch_size=32, statistics=UNIT, channels=1, augmentation=_VIEWS),
    hyperparameters=Hyperparameters(
        epochs=80,
        learning_rate=1.5e-3,
        warmup_epochs=10,
        weight_decay=0.04,
        clip_norm=None,
        clip_variable_norm=3.0,
    ),
)

RECIPES["digits_tokenizer"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    data="digits",
    model="BEiT",
    model_settings=_ENCODER,
    method=Tokenizer(vocabulary=64, width=32, depth=1, kl_weight=0.001),
    pipeline=Pipeline(image_size=16, batch_size=64, statistics=UNIT, channels=1),
    hyperparameters=Hyperparameters(epochs=40, learning_rate=5e-3, warmup_epochs=2, weight_decay=1e-4, clip_norm=1.0),
)
RECIPES["digits_beit"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    data="digits",
    model="BEiT",
    model_settings=_ENCODER,
    method=BEiT(mask_ratio=0.5, smallest_block=3),
    pipeline=Pipeline(image_size=16, batch_size=64, statistics=UNIT, channels=1),
    hyperparameters=Hyperparameters(
        epochs=300,
        learning_rate=2e-3,
        warmup_epochs=20,
        weight_decay=0.05,
        clip_norm=3.0,
    ),
)


RECIPES["digits_instance_discrimination"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    data="digits",
    model="ViT",
    model_settings=_ENCODER,
    method=InstanceDiscrimination(),
    pipeline=Pipeline(image_size=16, batch_size=64, statistics=UNIT, channels=1, augmentation=_VIEWS),
    hyperparameters=Hyperparameters(
        epochs=150,
        learning_rate=1e-3,
        warmup_epochs=5,
        weight_decay=0.05,
        clip_norm=None,
    ),
)

# In 8 x 8 pixels, the original size of the digits, each pixel is one of 17 levels of gray.
RECIPES["digits_igpt"] = Recipe(
    paper="the settings of keras_vit's authors",
    hardware="2 CPU cores",
    data="digits",
    model="iGPT",
    model_settings={"num_colors": 17, "width": 64, "depth": 6, "num_heads": 4},
    method=IGPT(),
    pipeline=Pipeline(image_size=8, batch_size=64, statistics=HALF, channels=1),
    hyperparameters=Hyperparameters(
        epochs=60,
        learning_rate=3e-3,
        optimizer_settings={"beta_2": 0.95},
        warmup_epochs=2,
        weight_decay=0.0,
        clip_norm=1.0,
    ),
)
