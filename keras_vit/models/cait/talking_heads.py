"""Talking-heads attention (Shazeer et al., arXiv 2003.02436, section 3), as CaiT uses it."""

import math

import keras
from keras import ops

from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class HeadMixing(keras.layers.Layer):
    """Replace the map of each head by a learned weighted sum of the maps of all heads, plus a learned number.

    It multiplies a matrix of the weights with the maps as they are in memory. A dense layer over the heads would have
    to transpose the maps twice, which takes longer than the sums.

    Input and output: (batch, heads, queries, tokens), with fixed numbers of queries and tokens.
    """

    def build(self, input_shape):
        heads = input_shape[1]
        # A row has the weights of one head of the output, as in the published files.
        self.kernel = self.add_weight(name="kernel", shape=(heads, heads), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(heads,), initializer="zeros")

    def call(self, maps):
        _, heads, queries, tokens = maps.shape
        kernel, bias = (ops.cast(weight, maps.dtype) for weight in (self.kernel, self.bias))
        mixed = ops.matmul(kernel, ops.reshape(maps, (-1, heads, queries * tokens)))
        return ops.reshape(mixed + bias[:, None], (-1, heads, queries, tokens))

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, see `keras_vit.count_macs`."""
        return math.prod(input_shape[1:]) * input_shape[1]

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class TalkingHeadsAttention(MultiHeadSelfAttention):
    """Compute self-attention whose heads are mixed before and after the softmax, each time by a `HeadMixing`.

    Takes the arguments of `MultiHeadAttention`, without `groups` and `locality`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Both compute in the softmax's precision, because the first one feeds it and the second one takes from it.
        self.mix_scores = HeadMixing(dtype=self.softmax.dtype_policy, name="mix_scores")
        self.mix_probabilities = HeadMixing(dtype=self.softmax.dtype_policy, name="mix_probabilities")

    def build(self, input_shape):
        super().build(input_shape)
        batch, tokens, _ = input_shape
        for mixing in (self.mix_scores, self.mix_probabilities):
            mixing.build((batch, self.num_heads, tokens, tokens))

    def probabilities(self, scores):
        return self.mix_probabilities(self.softmax(self.mix_scores(scores)))


@keras.saving.register_keras_serializable("keras_vit")
class TalkingHeadsBlock(TransformerBlock):
    """Compute a `TransformerBlock` with talking-heads attention. Takes the arguments of `TransformerBlock`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def _attention(self):
        names = ("width", "num_heads", "qkv_bias", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return TalkingHeadsAttention(**settings, dtype=self.dtype_policy, name="attention")
