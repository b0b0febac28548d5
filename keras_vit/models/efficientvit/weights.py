"""The names that published files use for the arrays of MIT's EfficientViT.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the stage's number
and {j} the block's.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming

# timm's name for each convolution of a branch. Most of them are followed by a normalization.
_BRANCH = {
    "expand": "inverted_conv",
    "depthwise": "depth_conv",
    "spatial": "spatial_conv",
    "conv1": "conv1",
    "conv2": "conv2",
    "project": "point_conv",
}


def _convolutions(ours: str, timm: str, names: dict[str, str] = _BRANCH) -> dict[str, str]:
    return {f"{ours}.{a}.{part}": f"{timm}.{b}.{part}" for a, b in names.items() for part in ("conv", "norm")}


_CONTEXT = "stages.{i}.blocks.{j}.context_module.main"

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "stem.conv": "stem.in_conv.conv",
        "stem.norm": "stem.in_conv.norm",
        **_convolutions("stem_block_{j}", "stem.res{j}.main"),
        **_convolutions("stage_{i}_block_{j}", "stages.{i}.blocks.{j}.main"),
        "stage_{i}_block_{j}.context.nearby.conv": f"{_CONTEXT}.aggreg.0.0",
        "stage_{i}_block_{j}.context.mix.conv": f"{_CONTEXT}.aggreg.0.1",
        **_convolutions("stage_{i}_block_{j}.context", _CONTEXT, {"qkv": "qkv", "project": "proj"}),
        **_convolutions("stage_{i}_block_{j}.local", "stages.{i}.blocks.{j}.local_module.main"),
        "head_conv.conv": "head.in_conv.conv",
        "head_conv.norm": "head.in_conv.norm",
        "pre_logits": "head.classifier.0",
        "pre_logits_norm": "head.classifier.1",
        "head": "head.classifier.4",
    },
    unused_without_head=("head.",),
)

NAMINGS = (TIMM,)
