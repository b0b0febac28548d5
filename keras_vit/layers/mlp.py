"""The MLP of a transformer block (Vaswani et al., arXiv 1706.03762, section 3.3)."""

import keras

from keras_vit.layers.activations import activation_layer
from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class MLP(Composite):
    """Apply a dense layer, an activation and a second dense layer, with dropout after the last two.

    Args:
        width: Width of the output.
        mlp_dim: Units of the first dense layer.
        activation: Name of a Keras activation, or "gelu_tanh" or "quick_gelu". "gelu" is the exact form, with the error
            function.
        dropout_rate: Dropout rate after the activation and after the second dense layer.
        use_bias: Whether the dense layers have a bias.

    Input: (..., input width). Output: (..., width).
    """

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        activation: str = "gelu",
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.mlp_dim = mlp_dim
        self.activation_name = activation
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias

        dtype = self.dtype_policy
        self.expand = keras.layers.Dense(mlp_dim, use_bias=use_bias, dtype=dtype, name="expand")
        self.activation = activation_layer(activation, dtype=dtype, name="activation")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")
        self.contract = keras.layers.Dense(width, use_bias=use_bias, dtype=dtype, name="contract")
        self.output_dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="output_dropout")

    def build(self, input_shape):
        self.expand.build(input_shape)
        self.contract.build((*input_shape[:-1], self.mlp_dim))

    def call(self, inputs):
        hidden = self.dropout(self.activation(self.expand(inputs)))
        return self.output_dropout(self.contract(hidden))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "mlp_dim": self.mlp_dim,
            "activation": self.activation_name,
            "dropout_rate": self.dropout_rate,
            "use_bias": self.use_bias,
        }
