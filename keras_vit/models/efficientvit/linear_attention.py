"""ReLU linear attention (Katharopoulos et al., arXiv 2006.16236, section 3.2; with ReLU in arXiv 2205.14756)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class LinearAttention(keras.layers.Layer):
    """Compute attention with weights relu(query) . relu(key), divided by their sum, at a cost linear in the tokens.

    It computes in float32 or higher precision, whatever the dtype policy: its sums are over all tokens and its divisor
    can be small, so float16 would overflow and int8 would divide by zero. That is why it is a single layer.

    Tokens are the last axis, so only the keys have to be transposed, which costs nothing.

    Args:
        epsilon: Added to the divisor.

    Input: (batch, heads, 3 * dim, tokens), the query, key and value of each head.
    Output: (batch, heads, dim, tokens).
    """

    def __init__(self, epsilon: float = 1e-15, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        if len(input_shape) != 4 or None in input_shape[1:] or input_shape[2] % 3:
            raise ValueError(
                "LinearAttention expects (batch, heads, 3 * dim, tokens), all but the batch fixed; "
                f"received the shape {tuple(input_shape)}."
            )

    def call(self, inputs):
        dim, tokens = inputs.shape[2] // 3, inputs.shape[3]
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        query, key, value = ops.relu(x[:, :, :dim]), ops.relu(x[:, :, dim : 2 * dim]), x[:, :, 2 * dim :]
        if tokens <= dim:  # The matrix of weights between the tokens is the smaller one.
            weights = ops.matmul(ops.swapaxes(key, -1, -2), query)
            sums = ops.sum(weights, axis=2, keepdims=True)
            outputs = ops.matmul(value, weights / (sums + self.epsilon))
        else:
            memory = ops.matmul(value, ops.swapaxes(key, -1, -2))
            keys = ops.reshape(ops.sum(key, axis=3), (-1, inputs.shape[1], 1, dim))
            outputs = ops.matmul(memory, query) / (ops.matmul(keys, query) + self.epsilon)
        return ops.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], input_shape[2] // 3, input_shape[3])

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image."""
        heads, dim, tokens = input_shape[1], input_shape[2] // 3, input_shape[3]
        return 2 * heads * dim * tokens * min(dim, tokens) + (heads * dim * tokens if dim < tokens else 0)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
