"""Products of two activations, as layers, so that quantization and cost counting see them."""

import keras
from keras import ops


class _Product(keras.layers.Layer):
    def __init__(self, transpose_b: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.transpose_b = transpose_b

    def call(self, a, b):
        return ops.matmul(a, ops.swapaxes(b, -1, -2) if self.transpose_b else b)

    def compute_output_shape(self, a_shape, b_shape):
        return (*a_shape[:-1], b_shape[-2 if self.transpose_b else -1])

    def get_config(self):
        return {**super().get_config(), "transpose_b": self.transpose_b}


@keras.saving.register_keras_serializable("keras_vit")
class MatMul(_Product):
    """Matrix product over the last two axes.

    Args:
        transpose_b: Whether the second operand is transposed first.

    Inputs: a (..., m, k) and b (..., k, n), or (..., n, k) with `transpose_b`. Output: (..., m, n).
    """


@keras.saving.register_keras_serializable("keras_vit")
class FloatMatMul(_Product):
    """A `MatMul` that quantization leaves in float.

    It is for products with a handful of rows or columns. They do so little with each number that int8 saves less time
    than it takes to put a whole feature map on the int8 grid and the result back.
    """
