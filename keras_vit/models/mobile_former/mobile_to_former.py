"""The bridge from Mobile to Former: tokens attend to a feature map (Chen et al., arXiv 2108.05895, section 3)."""

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import FloatMatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.mobile_former.hard_sigmoid import HardSigmoid
from keras_vit.models.mobile_former.linear import linear


@keras.saving.register_keras_serializable("keras_vit")
class MobileToFormer(Composite):
    """Compute norm(tokens + projection(gate * attention)), where each token attends to all positions of a feature map.

    Only the query is projected; the features themselves are key and value. The gate, 2 * hard_sigmoid(dense(tokens)),
    is in the reference code but not in the paper. The softmax computes in float32 or higher precision.

    Args:
        channels: Channels of the features.
        width: Width of a token.
        num_heads: Number of heads, a divisor of `channels`.
        epsilon: Added to the variance in the normalization.
        drop_path_rate: Rate of stochastic depth of the branch that is added to the tokens.

    Inputs: features (batch, rows, columns, channels) and tokens (batch, tokens, width), all but the batch fixed.
    Output: of the tokens' shape.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        num_heads: int = 2,
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % num_heads:
            raise ValueError(f"num_heads must divide channels; received num_heads={num_heads} and channels={channels}.")
        self.channels = channels
        self.width = width
        self.num_heads = num_heads
        self.epsilon = epsilon
        self.drop_path_rate = drop_path_rate

        dtype = self.dtype_policy
        self.query = linear(channels, dtype, "query")
        self.scale = Scale((channels // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.scores = FloatMatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = AttentionSoftmax(dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax")
        self.context = FloatMatMul(dtype=dtype, name="context")
        self.gate = linear(channels, dtype, "gate")
        self.gate_activation = HardSigmoid(2.0, dtype=dtype, name="gate_activation")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")
        self.projection = linear(width, dtype, "projection")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.norm = LayerNorm(epsilon, dtype=dtype, name="norm")

    def build(self, features_shape, tokens_shape):
        for part in (self.query, self.gate, self.norm):
            part.build(tokens_shape)
        self.projection.build((*tokens_shape[:-1], self.channels))

    def call(self, features, tokens):
        _, height, width, channels = features.shape
        query = split_heads(self.scale(self.query(tokens)), self.num_heads)
        positions = split_heads(ops.reshape(features, (-1, height * width, channels)), self.num_heads)
        context = merge_heads(self.context(self.softmax(self.scores(query, positions)), positions))
        gated = self.multiply([context, self.gate_activation(self.gate(tokens))])
        return self.norm(self.add([tokens, self.drop_path(self.projection(gated))]))

    def compute_output_shape(self, features_shape, tokens_shape):
        return tuple(tokens_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "width": self.width,
            "num_heads": self.num_heads,
            "epsilon": self.epsilon,
            "drop_path_rate": self.drop_path_rate,
        }
