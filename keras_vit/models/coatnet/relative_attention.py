"""Self-attention with a learned bias by relative position (Dai et al., arXiv 2106.04803, section 2.1)."""

from dataclasses import asdict

import keras

from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.window_bias import RelativePositionBias
from keras_vit.layers.windows import Windows


@keras.saving.register_keras_serializable("keras_vit")
class RelativeSelfAttention(MultiHeadSelfAttention):
    """Compute self-attention between the pixels of a map, with a bias by relative position.

    Args:
        width: Width of an output token. That of an input token may be another.
        num_heads: Number of heads, a divisor of `width`.
        size: (height, width) of the map.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input: (batch, pixels, input width), row by row. Output: (batch, pixels, width).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        size: tuple[int, int],
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            width, num_heads, dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate, **kwargs
        )
        self.size = tuple(size)
        self.bias = RelativePositionBias(
            num_heads,
            asdict(Windows.of(size, max(size), shifted=False)),
            "half_pixel_linear",
            dtype=self.softmax.dtype_policy,
            name="bias",
        )

    def build(self, input_shape):
        batch, pixels, _ = input_shape
        for dense in (self.query, self.key, self.value):
            dense.build(input_shape)
        self.projection.build((batch, pixels, self.width))
        self.bias.build((batch, self.num_heads, pixels, pixels))

    def probabilities(self, scores):
        return self.softmax(self.bias(scores))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return {**config, "size": self.size}
