"""The names that the authors' files use for the arrays of Mobile-Former.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming


def _conv_norm(layer: str, convolution: str, norm: str) -> dict[str, str]:
    return {f"{layer}.conv": convolution, f"{layer}.norm": norm}


def _dynamic_relu(layer: str, name: str) -> dict[str, str]:
    return {f"{layer}.reduce": f"{name}.hyper.0", f"{layer}.expand": f"{name}.hyper.2"}


def _mobile_to_former(layer: str, name: str) -> dict[str, str]:
    return {
        f"{layer}.query": f"{name}.q",
        f"{layer}.gate": f"{name}.alpha.0",
        f"{layer}.projection": f"{name}.proj",
        f"{layer}.norm": f"{name}.layer_norm",
    }


AUTHORS = Naming(
    "Mobile-Former's authors",
    PYTORCH,
    {
        "tokens": "tokens.weight",
        **_conv_norm("stem", "stem.0", "stem.1"),
        # The first block.
        **_conv_norm("block_{i}.depthwise", "features.{i}.conv.0", "features.{i}.conv.1"),
        **_conv_norm("block_{i}.project", "features.{i}.conv.4", "features.{i}.conv.5"),
        # Blocks that keep the resolution.
        **_conv_norm("block_{i}.mobile.expand", "features.{i}.conv1.0", "features.{i}.conv1.1"),
        **_dynamic_relu("block_{i}.mobile.expand_relu", "features.{i}.hyper1"),
        **_conv_norm("block_{i}.mobile.depthwise", "features.{i}.conv2.0", "features.{i}.conv2.1"),
        **_dynamic_relu("block_{i}.mobile.depthwise_relu", "features.{i}.hyper2"),
        **_conv_norm("block_{i}.mobile.project", "features.{i}.conv3.0", "features.{i}.conv3.1"),
        # Blocks that halve it.
        **_conv_norm("block_{i}.mobile.depthwise1", "features.{i}.conv1.0", "features.{i}.conv1.1"),
        **_dynamic_relu("block_{i}.mobile.depthwise1_relu", "features.{i}.hyper1"),
        **_conv_norm("block_{i}.mobile.project1", "features.{i}.conv2.0", "features.{i}.conv2.1"),
        **_conv_norm("block_{i}.mobile.depthwise2", "features.{i}.conv3.0", "features.{i}.conv3.1"),
        **_dynamic_relu("block_{i}.mobile.depthwise2_relu", "features.{i}.hyper3"),
        **_conv_norm("block_{i}.mobile.project2", "features.{i}.conv4.0", "features.{i}.conv4.1"),
        # Both kinds of blocks.
        **_mobile_to_former("block_{i}.mobile_to_former", "features.{i}.local_global"),
        "block_{i}.former.query": "features.{i}.global_block.q",
        "block_{i}.former.projection": "features.{i}.global_block.channel_mlp",
        "block_{i}.former.norm1": "features.{i}.global_block.layer_norm",
        "block_{i}.former.expand": "features.{i}.global_block.ffn.0",
        "block_{i}.former.contract": "features.{i}.global_block.ffn.2",
        "block_{i}.former.norm2": "features.{i}.global_block.ffn_norm",
        "block_{i}.former_to_mobile.key": "features.{i}.global_local.k",
        "block_{i}.former_to_mobile.value": "features.{i}.global_local.proj",
        **_mobile_to_former("bridge", "local_global"),
        **_conv_norm("widen", "classifier.conv.1", "classifier.conv.2"),
        "hidden": "classifier.fc.0",
        "hidden_norm": "classifier.fc.1",
        "head": "classifier.classifier.1",
    },
    unused_without_head=("local_global.", "classifier."),
)

NAMINGS = (AUTHORS,)
