"""Cross-covariance attention (El-Nouby et al., arXiv 2106.09681, section 3.2)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.matmul import MatMul


@keras.saving.register_keras_serializable("keras_vit")
class UnitLength(keras.layers.Layer):
    """Divide each channel by its Euclidean norm over the tokens of an image.

    Computes in float32 or higher precision, whatever the dtype policy.

    Args:
        num_heads: Number of attention heads, each a run of neighboring channels, whose temperature is learned and
            multiplied afterwards; None for no temperature.

    Input and output: (batch, tokens, width).
    """

    def __init__(self, num_heads: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        if self.num_heads is not None:
            self.temperature = self.add_weight(name="temperature", shape=(self.num_heads,), initializer="ones")

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        # The smallest norm is 1e-12, that of PyTorch.
        factor = ops.rsqrt(ops.maximum(ops.sum(x * x, axis=1, keepdims=True), 1e-24))
        if self.num_heads is not None:
            factor = factor * ops.repeat(ops.cast(self.temperature, x.dtype), x.shape[-1] // self.num_heads)
        return ops.cast(x * factor, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_vit")
class ChannelSoftmax(keras.layers.Activation):
    """Apply a softmax over channels. Inspection does not take its output for attention between tokens.

    Input and output: (..., channels).
    """

    over_channels = True

    def __init__(self, **kwargs):
        super().__init__("softmax", **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["activation"]
        return config


@keras.saving.register_keras_serializable("keras_vit")
class CrossCovarianceAttention(Composite):
    """Compute softmax attention of each channel to all channels of its head, by their correlation over the tokens.

    Its cost is linear in the number of tokens. The softmax computes in float32 or higher precision.

    Args:
        width: Width of a token.
        num_heads: Number of heads, a divisor of `width`.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, tokens, width), with a fixed number of tokens.

    Raises:
        ValueError: The sizes do not fit each other.
    """

    def __init__(
        self, width: int, num_heads: int, dropout_rate: float = 0.0, attention_dropout_rate: float = 0.0, **kwargs
    ):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(f"num_heads must divide width; received num_heads={num_heads} and width={width}.")
        self.width = width
        self.num_heads = num_heads
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")
        self.query = keras.layers.Dense(width, dtype=dtype, name="query")
        self.key = keras.layers.Dense(width, dtype=dtype, name="key")
        self.value = keras.layers.Dense(width, dtype=dtype, name="value")
        self.query_norm = UnitLength(num_heads, dtype=dtype, name="query_norm")
        self.key_norm = UnitLength(dtype=dtype, name="key_norm")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = ChannelSoftmax(dtype=full_precision, name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.projection = keras.layers.Dense(width, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        if input_shape[1] is None or input_shape[2] != self.width:
            raise ValueError(
                f"CrossCovarianceAttention expects (batch, tokens, {self.width}) with a fixed number of tokens; "
                f"received the shape {tuple(input_shape)}."
            )
        for part in (self.query, self.key, self.value, self.query_norm, self.key_norm, self.projection):
            part.build(input_shape)

    def call(self, tokens):
        count = tokens.shape[1]

        def heads(channels):
            """Return (batch, tokens, width) as (batch, heads, width / heads, tokens)."""
            transposed = ops.transpose(channels, (0, 2, 1))
            return ops.reshape(transposed, (-1, self.num_heads, self.width // self.num_heads, count))

        query = heads(self.query_norm(self.query(tokens)))
        key = heads(self.key_norm(self.key(tokens)))
        probabilities = self.attention_dropout(self.softmax(self.scores(query, key)))
        context = ops.reshape(self.context(probabilities, heads(self.value(tokens))), (-1, self.width, count))
        return self.dropout(self.projection(ops.transpose(context, (0, 2, 1))))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
        }
