"""The MobileViT block (Mehta and Rastegari, arXiv 2110.02178, section 3.1 and figure 1b)."""

import keras

from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.resize import Resize, next_even
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.unfold import PATCH_AREA, Fold, Unfold


@keras.saving.register_keras_serializable("keras_vit")
class MobileViTBlock(SequentialComposite):
    """Compute convolutions, transformers over the pixels at each position of the 2 x 2 patches, and a convolution.

    The last convolution also takes the block's input. The convolution to the width of the tokens has no normalization,
    bias or activation. A map with an odd side is resized to the next even size for the transformers, and back.

    Args:
        size: (height, width) of the map.
        channels: Channels of the map.
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of heads of each attention.
        mlp_dim: Units between the two dense layers of each MLP.
        drop_path_rate: Rate of stochastic depth of each branch of the transformer blocks.
        dropout_rate: Dropout rate in the MLPs and after the attentions' projections.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        width: int,
        depth: int,
        num_heads: int,
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
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        even = [next_even(side) for side in size]
        # The layers before the concatenation with the input.
        parts = {}
        parts["local"] = ConvNorm(channels, 3, activation="silu", dtype=dtype, name="local")
        parts["widen"] = ConvNorm(width, norm=False, dtype=dtype, name="widen")
        parts["resize"] = Resize(*even, dtype=dtype, name="resize")
        parts["unfold"] = Unfold(dtype=dtype, name="unfold")
        for index in range(depth):
            parts[f"transformer_{index}"] = TransformerBlock(
                width,
                num_heads,
                mlp_dim,
                activation="silu",
                epsilon=1e-5,
                drop_path_rate=drop_path_rate,
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                groups=PATCH_AREA,
                dtype=dtype,
                name=f"transformer_{index}",
            )
        parts["norm"] = LayerNorm(1e-5, dtype=dtype, name="norm")
        parts["fold"] = Fold(*even, dtype=dtype, name="fold")
        parts["resize_back"] = Resize(*size, dtype=dtype, name="resize_back")
        parts["project_back"] = ConvNorm(channels, activation="silu", dtype=dtype, name="project_back")
        self.set_sequence(parts)
        self.concatenate = keras.layers.Concatenate(dtype=dtype, name="concatenate")
        self.fuse = ConvNorm(channels, 3, activation="silu", dtype=dtype, name="fuse")

    def build(self, input_shape):
        super().build(input_shape)
        self.fuse.build((*input_shape[:-1], 2 * input_shape[-1]))

    def call(self, inputs):
        return self.fuse(self.concatenate([inputs, super().call(inputs)]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
