"""The MobileViTv2 block (Mehta and Rastegari, arXiv 2206.02680, section 3)."""

import keras

from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.resize import ResizeToEven, next_even
from keras_vit.layers.unfold import PATCH_AREA, Fold, Unfold
from keras_vit.models.mobilevit.separable_transformer_block import SeparableTransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class MobileViTV2Block(SequentialComposite):
    """Compute a depthwise convolution, and transformers with separable attention as in `MobileViTBlock`.

    No shortcut skips the transformers. A map with an odd side is resized to the next even size.

    Args:
        size: (height, width) of the map.
        channels: Channels of the map.
        width: Width of a token.
        depth: Number of transformer blocks.
        mlp_dim: Units between the two dense layers of each MLP.
        drop_path_rate: Rate of stochastic depth of each branch of the transformer blocks.
        dropout_rate: Dropout rate in the MLPs and after the attentions' projections.
        attention_dropout_rate: Dropout rate of the attentions' softmax.

    Input: (batch, height, width, channels). Output: (batch, next even height, next even width, channels).
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        width: int,
        depth: int,
        mlp_dim: int,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "size": tuple(size),
            "channels": channels,
            "width": width,
            "depth": depth,
            "mlp_dim": mlp_dim,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        parts = {}
        parts["resize"] = ResizeToEven(dtype=dtype, name="resize")
        parts["local"] = ConvNorm(
            channels, 3, depthwise=True, input_channels=channels, activation="silu", dtype=dtype, name="local"
        )
        parts["narrow"] = ConvNorm(width, norm=False, dtype=dtype, name="narrow")
        parts["unfold"] = Unfold(dtype=dtype, name="unfold")
        for index in range(depth):
            parts[f"transformer_{index}"] = SeparableTransformerBlock(
                width,
                mlp_dim,
                drop_path_rate,
                dropout_rate,
                attention_dropout_rate,
                PATCH_AREA,
                dtype=dtype,
                name=f"transformer_{index}",
            )
        parts["norm"] = GroupNorm(dtype=dtype, name="norm")
        parts["fold"] = Fold(*map(next_even, size), dtype=dtype, name="fold")
        parts["project_back"] = ConvNorm(channels, dtype=dtype, name="project_back")
        self.set_sequence(parts)

    def compute_output_shape(self, input_shape):
        return self.resize.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
