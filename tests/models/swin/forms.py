"""Small forms of Swin Transformer and its version 2, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.layers.window_bias import RelativePositionBias, WindowBias
from keras_vit.layers.window_moves import WindowPartition
from keras_vit.models.swin.continuous_position_bias import ContinuousPositionBias
from keras_vit.models.swin.swin_block import PatchMap, PatchMerging, PatchMergingV2, SwinBlock, SwinV2Block
from keras_vit.models.swin.unit_norm import UnitNorm
from keras_vit.models.swin.window_moves import CyclicShift, JoinPatches
from tests.models.cases import IMAGES, Reference

# The maps are 8 x 8 (four windows), 4 x 4 and 2 x 2 (one window).
TINY = dict(input_shape=(32, 32, 3), channels=12, depths=(2, 2, 1), num_heads=(2, 3, 4), window=4)
FORMS = {
    "Swin": ("Swin", TINY),
    # The image is padded to 32 x 24; the maps are 8 x 6, 4 x 3 and 2 x 2, with padded windows.
    "Swin, padded": ("Swin", {**TINY, "input_shape": (30, 23, 3), "window": 3}),
    "SwinV2": ("SwinV2", TINY),
}
REFERENCES = (
    Reference("swin_t", "swin_tiny_patch4_window7_224"),
    Reference("swin_t", "swin_tiny_patch4_window7_224_authors_at_256x320"),
    Reference("swin_t", "swin_tiny_patch4_window7_224_at_192x256", {"pad_first": False}),
    Reference("swin_s", "swin_small_patch4_window7_224", slow=True),
    Reference("swin_b", "swin_base_patch4_window12_384", {"window": 12}, slow=True),
    Reference("swinv2_t", "swinv2_tiny_window8_256"),
    Reference("swinv2_t", "swinv2_tiny_window16_256", {"window": 16}, slow=True),
    Reference(
        "swinv2_b",
        "swinv2_base_window12to16_192to256",
        {"window": 16, "pretrained_windows": (12, 12, 12, 6)},
        slow=True,
    ),
)
_BLOCK = {"channels": 3, "num_heads": 3, "size": (8, 12), "window": 4, "shifted": True, "drop_path_rate": 0.1}
_WINDOWS = {"size": (4, 6), "window": (2, 3), "shift": (1, 1)}
_SCORES = np.random.default_rng(1).normal(size=(2, 8, 6, 6)).astype("float32")
LAYERS = [
    (CyclicShift, {"shift": (3, -2)}, IMAGES),
    (WindowPartition, {"width": 4}, IMAGES),
    (JoinPatches, {}, IMAGES),
    (UnitNorm, {"scaled": True}, _SCORES),
    (RelativePositionBias, {"num_heads": 2, "windows": _WINDOWS}, _SCORES),
    (ContinuousPositionBias, {"num_heads": 2, "windows": _WINDOWS, "pretrained_window": (2, 2)}, _SCORES),
    (WindowBias, {"num_heads": 2, "windows": _WINDOWS, "per_window": False}, _SCORES),
    (PatchMap, {"channels": 5, "size": (8, 12)}, IMAGES),
    (PatchMerging, {"channels": 5, "size": (8, 12)}, IMAGES),
    (PatchMergingV2, {"channels": 5}, IMAGES),
    (SwinBlock, {**_BLOCK, "pad_first": False}, IMAGES),
    (SwinV2Block, {**_BLOCK, "pretrained_window": (3, 2)}, IMAGES),
]
