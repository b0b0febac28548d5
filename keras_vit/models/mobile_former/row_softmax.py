"""Softmax over an axis that is not the last."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class RowSoftmax(keras.layers.Layer):
    """Compute the softmax over the second to last axis, in float32 or higher precision.

    A device computes a softmax over the last axis as one operation, row by row. If there are many short rows, as when
    every position of a map attends to a few tokens, that is several times slower than these steps over long rows.

    Input and output: (..., rows, columns).
    """

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        exponentials = ops.exp(x - ops.max(x, axis=-2, keepdims=True))
        return ops.cast(exponentials / ops.sum(exponentials, axis=-2, keepdims=True), inputs.dtype)

    def integer_call(self, inputs):
        """Compute the same where every operator is an integer one: there, the sums of short rows cost more."""
        return ops.softmax(inputs, axis=-2)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
