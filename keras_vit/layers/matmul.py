"""Matrix products of two activations as layers, which quantization and `count_macs` can see."""

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
    """Multiply two matrices over the last two axes.

    Args:
        transpose_b: Whether to transpose the second operand first.

    Inputs: a (..., m, k) and b (..., k, n), or (..., n, k) with `transpose_b`. Output: (..., m, n).
    """


@keras.saving.register_keras_serializable("keras_vit")
class FloatMatMul(_Product):
    """Multiply two matrices like `MatMul`, but stay in float when the model is quantized.

    It is for products with only a few rows or columns, where int8 saves less time than it takes to quantize a whole
    feature map and dequantize the result.

    Args:
        transpose_b: Whether to transpose the second operand first.

    Inputs and output: as in `MatMul`.
    """
