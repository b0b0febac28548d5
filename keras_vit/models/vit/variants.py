"""The sizes of ViT, DeiT, DeiT III and DINOv2, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF, IMAGENET
from keras_vit.weights.published import IN1K, IN21K, IN21K_THEN_IN1K, release

_ORIGINAL = "An Image Is Worth 16x16 Words, arXiv 2010.11929, table 1"
_AUGREG = "How to train your ViT?, arXiv 2106.10270, table 2"
_SCALING = "Scaling Vision Transformers, arXiv 2106.04560, table 2"
_DEIT = "Training data-efficient image transformers & distillation through attention, arXiv 2012.12877, table 1"
_DEIT3 = "DeiT III: Revenge of the ViT, arXiv 2204.07118, table 1"

_DINOV2 = "DINOv2: Learning Robust Visual Features without Supervision, arXiv 2304.07193, table 17"
_REGISTERS = "Vision Transformers Need Registers, arXiv 2309.16588, section 3"

_VIT_SIZES = {  # width, depth, heads, MLP width
    "XS": (256, 6, 8, 1024),
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "G": (1664, 48, 16, 8192),
}
_VITS = (  # size, patch, paper
    ("Ti", 16, _AUGREG),
    ("S", 32, _AUGREG),
    ("S", 16, _AUGREG),
    ("B", 32, _ORIGINAL),
    ("B", 16, _ORIGINAL),
    ("B", 8, _AUGREG),
    ("L", 32, _ORIGINAL),
    ("L", 16, _ORIGINAL),
    ("H", 14, _ORIGINAL),
    ("g", 14, _SCALING),
    ("G", 14, _SCALING),
    ("XS", 28, _SCALING),
    ("XS", 16, _SCALING),
    ("B", 28, _SCALING),
)
_DEIT_SIZES = {  # width, depth, heads
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "M": (512, 12, 8),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}
_DEITS = (  # builder, size, patch, distilled
    ("DeiT", "Ti", 16, False),
    ("DeiT", "S", 16, False),
    ("DeiT", "B", 16, False),
    ("DeiT", "Ti", 16, True),
    ("DeiT", "S", 16, True),
    ("DeiT", "B", 16, True),
    ("DeiT3", "S", 16, False),
    ("DeiT3", "M", 16, False),
    ("DeiT3", "B", 16, False),
    ("DeiT3", "L", 16, False),
    ("DeiT3", "H", 14, False),
)
_DINOV2_SIZES = {  # width, depth, heads, MLP width, whether the MLPs are gated
    "S": (384, 12, 6, 1536, False),
    "B": (768, 12, 12, 3072, False),
    "L": (1024, 24, 16, 4096, False),
    "g": (1536, 40, 24, 4096, True),
}


def _vit(size: str, patch: int, paper: str) -> Variant:
    width, depth, heads, mlp_dim = _VIT_SIZES[size]
    # g/14 and G/14 would have the same name in snake case, so the larger one doubles its letter.
    registry_name = f"vit_{'gg' if size == 'G' else size.lower()}{patch}"
    return Variant(
        registry_name,
        f"ViT_{size}{patch}",
        "ViT",
        {"patch_size": patch, "width": width, "depth": depth, "num_heads": heads, "mlp_dim": mlp_dim},
        summary=f"ViT {size}/{patch}: width {width}, {depth} blocks, {heads} heads, patches of {patch} x {patch}.",
        paper=paper,
        license="Apache-2.0",
        statistics=HALF,
    )


def _deit(builder: str, size: str, patch: int, distilled: bool) -> Variant:
    width, depth, heads = _DEIT_SIZES[size]
    name = f"{builder}_{size}{patch}{'_Distilled' if distilled else ''}"
    settings = {"patch_size": patch, "width": width, "depth": depth, "num_heads": heads}
    return Variant(
        name.lower(),
        name,
        builder,
        {**settings, "distilled": True} if distilled else settings,
        summary=f"{builder} {size}/{patch}{', distilled' if distilled else ''}: width {width}, {depth} blocks, {heads} "
        f"heads, patches of {patch} x {patch}.",
        paper=_DEIT3 if builder == "DeiT3" else _DEIT,
        license="Apache-2.0",
        statistics=IMAGENET,
    )


def _dinov2(size: str, registers: bool) -> Variant:
    width, depth, heads, mlp_dim, swiglu = _DINOV2_SIZES[size]
    name = f"DINOv2_{size}14{'_Reg' if registers else ''}"
    settings = {"width": width, "depth": depth, "num_heads": heads, "mlp_dim": mlp_dim, "swiglu": swiglu}
    return Variant(
        name.lower(),
        name,
        "DINOv2",
        {**settings, "num_registers": 4} if registers else settings,
        summary=f"DINOv2 {size}/14{' with 4 registers' if registers else ''}: width {width}, {depth} blocks, {heads} "
        "heads, patches of 14 x 14.",
        paper=_REGISTERS if registers else _DINOV2,
        license="Apache-2.0",
        statistics=IMAGENET,
        image_size=(518, 518),
        crop_fraction=1.0,
    )


_WEIGHTS = [
    *release(
        "augreg_in21k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("vit_ti16", "vit_tiny_patch16_224", 224, 0.9, 75.454),
            ("vit_ti16", "vit_tiny_patch16_384", 384, 1.0, 78.424),
            ("vit_s32", "vit_small_patch32_224", 224, 0.9, 75.994),
            ("vit_s32", "vit_small_patch32_384", 384, 1.0, 80.486),
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, 81.384),
            ("vit_s16", "vit_small_patch16_384", 384, 1.0, 83.802),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 80.716),
            ("vit_b32", "vit_base_patch32_384", 384, 1.0, 83.350),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 84.532),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 85.996),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, 85.798),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, 85.834),
            ("vit_l16", "vit_large_patch16_384", 384, 1.0, 87.084),
        ],
        statistics=HALF,
    ),
    *release(
        "augreg2_in21k_ft_in1k",  # Retrained by timm's author.
        IN21K_THEN_IN1K,
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 85.096),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, 86.218),
        ],
        statistics=HALF,
    ),
    *release(
        "augreg_in21k",
        IN21K,
        [
            ("vit_ti16", "vit_tiny_patch16_224", 224, 0.9, None),
            ("vit_s32", "vit_small_patch32_224", 224, 0.9, None),
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, None),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
        ],
        classes=21843,
        statistics=HALF,
    ),
    *release(
        "augreg_in1k",
        IN1K,
        [
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, 78.846),
            ("vit_s16", "vit_small_patch16_384", 384, 1.0, 81.116),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 74.894),
            ("vit_b32", "vit_base_patch32_384", 384, 1.0, 78.752),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 79.154),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 81.102),
        ],
        statistics=HALF,
    ),
    *release(
        "orig_in21k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 81.786),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 84.200),
            ("vit_l32", "vit_large_patch32_384", 384, 1.0, 81.510),
        ],
        statistics=HALF,
    ),
    *release(
        "orig_in21k",
        IN21K,
        [
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_l32", "vit_large_patch32_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
            ("vit_h14", "vit_huge_patch14_224", 224, 0.9, None),
        ],
        classes=None,
        statistics=HALF,
    ),
    *release(
        "sam_in1k",
        IN1K,
        [
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 73.694),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 80.244),
        ],
        statistics=HALF,
    ),
    *release(
        "dino",
        f"{IN1K} without labels",
        [
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, None),
        ],
        classes=None,
        settings={"position_resizing": "cubic_offset"},
    ),
    *release(
        "mae",
        f"{IN1K} without labels",
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
            ("vit_h14", "vit_huge_patch14_224", 224, 0.9, None),
        ],
        classes=None,
        license="CC-BY-NC-4.0",
        settings={"position_resizing": "cubic"},
    ),
    *release(
        "lvd142m",
        "LVD-142M without labels",
        [
            ("dinov2_s14", "vit_small_patch14_dinov2", 518, 1.0, None),
            ("dinov2_b14", "vit_base_patch14_dinov2", 518, 1.0, None),
            ("dinov2_l14", "vit_large_patch14_dinov2", 518, 1.0, None),
            ("dinov2_g14", "vit_giant_patch14_dinov2", 518, 1.0, None),
            ("dinov2_s14_reg", "vit_small_patch14_reg4_dinov2", 518, 1.0, None),
            ("dinov2_b14_reg", "vit_base_patch14_reg4_dinov2", 518, 1.0, None),
            ("dinov2_l14_reg", "vit_large_patch14_reg4_dinov2", 518, 1.0, None),
            ("dinov2_g14_reg", "vit_giant_patch14_reg4_dinov2", 518, 1.0, None),
        ],
        classes=None,
    ),
    *release(
        "fb_in1k",
        IN1K,
        [
            ("deit_ti16", "deit_tiny_patch16_224", 224, 0.9, 72.172),
            ("deit_s16", "deit_small_patch16_224", 224, 0.9, 79.844),
            ("deit_b16", "deit_base_patch16_224", 224, 0.9, 81.992),
            ("deit_b16", "deit_base_patch16_384", 384, 1.0, 83.106),
            ("deit_ti16_distilled", "deit_tiny_distilled_patch16_224", 224, 0.9, 74.500),
            ("deit_s16_distilled", "deit_small_distilled_patch16_224", 224, 0.9, 81.218),
            ("deit_b16_distilled", "deit_base_distilled_patch16_224", 224, 0.9, 83.386),
            ("deit_b16_distilled", "deit_base_distilled_patch16_384", 384, 1.0, 85.426),
            ("deit3_s16", "deit3_small_patch16_224", 224, 0.9, 81.370),
            ("deit3_s16", "deit3_small_patch16_384", 384, 1.0, 83.430),
            ("deit3_m16", "deit3_medium_patch16_224", 224, 0.9, 83.086),
            ("deit3_b16", "deit3_base_patch16_224", 224, 0.9, 83.786),
            ("deit3_b16", "deit3_base_patch16_384", 384, 1.0, 85.072),
            ("deit3_l16", "deit3_large_patch16_224", 224, 0.9, 84.776),
            ("deit3_l16", "deit3_large_patch16_384", 384, 1.0, 85.812),
            ("deit3_h14", "deit3_huge_patch14_224", 224, 0.9, 85.224),
        ],
    ),
    *release(
        "fb_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("deit3_s16", "deit3_small_patch16_224", 224, 1.0, 83.074),
            ("deit3_s16", "deit3_small_patch16_384", 384, 1.0, 84.824),
            ("deit3_m16", "deit3_medium_patch16_224", 224, 1.0, 84.552),
            ("deit3_b16", "deit3_base_patch16_224", 224, 1.0, 85.700),
            ("deit3_b16", "deit3_base_patch16_384", 384, 1.0, 86.738),
            ("deit3_l16", "deit3_large_patch16_224", 224, 1.0, 86.982),
            ("deit3_l16", "deit3_large_patch16_384", 384, 1.0, 87.720),
            ("deit3_h14", "deit3_huge_patch14_224", 224, 1.0, 87.186),
        ],
    ),
]

FAMILY = Family(
    functions={"ViT": "vit", "DeiT": "deit", "DeiT3": "deit", "average_heads": "deit", "DINOv2": "dinov2"},
    variants=(
        *(_vit(*size) for size in _VITS),
        *(_deit(*size) for size in _DEITS),
        *(_dinov2(size, registers) for registers in (False, True) for size in _DINOV2_SIZES),
    ),
    weights=tuple(_WEIGHTS),
)
