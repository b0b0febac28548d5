"""The Former: a transformer block over few tokens (Chen et al., arXiv 2108.05895, section 3)."""

import keras

from keras_vit.layers.activations import GELU, AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import FloatMatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.mobile_former.linear import linear


@keras.saving.register_keras_serializable("keras_vit")
class Former(Composite):
    """Compute norm(x + attention(x)), then norm(x + mlp(x)).

    Only the query is projected; the tokens themselves are key and value. The MLP has twice the width between its dense
    layers, and the exact GELU. The softmax computes in float32 or higher precision.

    Args:
        width: Width of a token.
        num_heads: Number of heads, a divisor of `width`.
        epsilon: Added to the variance in both normalizations.
        drop_path_rate: Rate of stochastic depth of the attention's branch; the MLP's has none.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(self, width: int, num_heads: int = 4, epsilon: float = 1e-5, drop_path_rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(f"num_heads must divide width; received num_heads={num_heads} and width={width}.")
        self.width = width
        self.num_heads = num_heads
        self.epsilon = epsilon
        self.drop_path_rate = drop_path_rate

        dtype = self.dtype_policy
        self.query = linear(width, dtype, "query")
        self.scale = Scale((width // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.scores = FloatMatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = AttentionSoftmax(dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax")
        self.context = FloatMatMul(dtype=dtype, name="context")
        self.projection = linear(width, dtype, "projection")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        self.expand = linear(2 * width, dtype, "expand")
        self.gelu = GELU(dtype=dtype, name="gelu")
        self.contract = linear(width, dtype, "contract")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")

    def build(self, input_shape):
        for part in (self.query, self.projection, self.norm1, self.expand, self.norm2):
            part.build(input_shape)
        self.contract.build((*input_shape[:-1], 2 * self.width))

    def call(self, tokens):
        query = split_heads(self.scale(self.query(tokens)), self.num_heads)
        heads = split_heads(tokens, self.num_heads)
        context = merge_heads(self.context(self.softmax(self.scores(query, heads)), heads))
        tokens = self.norm1(self.add1([tokens, self.drop_path(self.projection(context))]))
        hidden = self.gelu(self.expand(tokens))
        return self.norm2(self.add2([tokens, self.contract(hidden)]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "epsilon": self.epsilon,
            "drop_path_rate": self.drop_path_rate,
        }
