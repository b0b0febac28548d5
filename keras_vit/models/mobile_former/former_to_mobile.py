"""The bridge from Former to Mobile: a feature map attends to tokens (Chen et al., arXiv 2108.05895, section 3)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.matmul import FloatMatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.mobile_former.linear import linear
from keras_vit.models.mobile_former.row_softmax import RowSoftmax


@keras.saving.register_keras_serializable("keras_vit")
class FormerToMobile(Composite):
    """Compute features + attention, where each position of the feature map attends to all tokens.

    Key and value are projections of the tokens; the features themselves are the query. The output is added without a
    projection or normalization. The softmax computes in float32 or higher precision.

    Args:
        channels: Channels of the features.
        num_heads: Number of heads, a divisor of `channels`.
        drop_path_rate: Rate of stochastic depth of the attention that is added to the features.

    Inputs: features (batch, rows, columns, channels) and tokens (batch, tokens, width), all but the batch fixed.
    Output: of the features' shape.
    """

    def __init__(self, channels: int, num_heads: int = 2, drop_path_rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if channels % num_heads:
            raise ValueError(f"num_heads must divide channels; received num_heads={num_heads} and channels={channels}.")
        self.channels = channels
        self.num_heads = num_heads
        self.drop_path_rate = drop_path_rate

        dtype = self.dtype_policy
        self.key = linear(channels, dtype, "key")
        self.scale = Scale((channels // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.value = linear(channels, dtype, "value")
        self.scores = FloatMatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = RowSoftmax(dtype=dtype.name, name="softmax")
        self.context = FloatMatMul(dtype=dtype, name="context")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, features_shape, tokens_shape):
        self.key.build(tokens_shape)
        self.value.build(tokens_shape)

    def call(self, features, tokens):
        _, height, width, channels = features.shape
        query = split_heads(ops.reshape(features, (-1, height * width, channels)), self.num_heads)
        key = split_heads(self.scale(self.key(tokens)), self.num_heads)
        value = split_heads(self.value(tokens), self.num_heads)
        # (batch, heads, tokens, positions): with the long axis last, the softmax is faster; see RowSoftmax.
        probabilities = self.softmax(self.scores(key, query))
        context = merge_heads(self.context(ops.transpose(probabilities, (0, 1, 3, 2)), value))
        return self.add([features, self.drop_path(ops.reshape(context, (-1, height, width, channels)))])

    def compute_output_shape(self, features_shape, tokens_shape):
        return tuple(features_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "num_heads": self.num_heads,
            "drop_path_rate": self.drop_path_rate,
        }
