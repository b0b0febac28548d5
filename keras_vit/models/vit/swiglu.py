"""The gated MLP of DINOv2's largest model (Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202)."""

import keras

from keras_vit.layers import Composite, TransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class SwiGLU(Composite):
    """Compute contract(silu(gate(x)) * value(x)) with dense layers (arXiv 2002.05202, section 2).

    Args:
        width: Width of the output.
        mlp_dim: Units of the gate and of the values.
        dropout_rate: Dropout rate of the output.

    Input: (..., input width). Output: (..., width).
    """

    def __init__(self, width: int, mlp_dim: int, dropout_rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate

        dtype = self.dtype_policy
        self.gate = keras.layers.Dense(mlp_dim, dtype=dtype, name="gate")
        self.activation = keras.layers.Activation("silu", dtype=dtype, name="activation")
        self.value = keras.layers.Dense(mlp_dim, dtype=dtype, name="value")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")
        self.contract = keras.layers.Dense(width, dtype=dtype, name="contract")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        self.gate.build(input_shape)
        self.value.build(input_shape)
        self.contract.build((*input_shape[:-1], self.mlp_dim))

    def call(self, inputs):
        hidden = self.multiply([self.activation(self.gate(inputs)), self.value(inputs)])
        return self.dropout(self.contract(hidden))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
        }


@keras.saving.register_keras_serializable("keras_vit")
class SwiGLUBlock(TransformerBlock):
    """Compute a transformer block with `SwiGLU` for its MLP. Takes the arguments of `TransformerBlock`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def _mlp(self):
        settings = {name: self.settings[name] for name in ("width", "mlp_dim", "dropout_rate")}
        return SwiGLU(**settings, dtype=self.dtype_policy, name="mlp")
