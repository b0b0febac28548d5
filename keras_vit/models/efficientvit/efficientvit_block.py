"""The block of MIT's EfficientViT (Cai et al., arXiv 2205.14756, figure 2, left)."""

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_branch import MBConv
from keras_vit.layers.drop_path import DropPath
from keras_vit.models.efficientvit.multi_scale_attention import MultiScaleAttention


@keras.saving.register_keras_serializable("keras_vit")
class EfficientViTBlock(Composite):
    """Compute x + attention(x) for the global context, then an `MBConv` for the local one.

    Args:
        channels: Channels of the map.
        head_dim: Channels of a head, as in `MultiScaleAttention`.
        expansion: Expansion of the `MBConv`, whose first two convolutions have a bias instead of a normalization.
        activation: Activation of the `MBConv`.
        epsilon: Added to the variance in the batch normalizations.
        attention_epsilon: Added to the divisor of the attention.
        drop_path_rate: Rate of stochastic depth of both branches.

    Input and output: (batch, height, width, channels), of a fixed size.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int = 16,
        expansion: float = 4,
        activation: str = "hard_swish",
        epsilon: float = 1e-5,
        attention_epsilon: float = 1e-15,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "head_dim": head_dim,
            "expansion": expansion,
            "activation": activation,
            "epsilon": epsilon,
            "attention_epsilon": attention_epsilon,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        self.context = MultiScaleAttention(
            channels, head_dim, epsilon=epsilon, attention_epsilon=attention_epsilon, dtype=dtype, name="context"
        )
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.local = MBConv(
            channels,
            channels,
            expansion=expansion,
            activation=activation,
            epsilon=epsilon,
            fewer_norm=True,
            drop_path_rate=drop_path_rate,
            dtype=dtype,
            name="local",
        )

    def build(self, input_shape):
        for part in (self.context, self.drop_path, self.local):
            part.build(input_shape)

    def call(self, inputs):
        return self.local(self.add([inputs, self.drop_path(self.context(inputs))]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
