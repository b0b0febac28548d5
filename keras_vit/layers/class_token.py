"""The learned class token (Dosovitskiy et al., arXiv 2010.11929, section 3.1, after BERT)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class ClassToken(keras.layers.Layer):
    """Prepend a learned token to a sequence. DeiT's distillation token is one as well.

    Args:
        stddev: Standard deviation of the normal distribution that initializes the token: 0 in ViT, 0.02 in DeiT.

    Input: (batch, tokens, width). Output: (batch, tokens + 1, width).
    """

    def __init__(self, stddev: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev

    def build(self, input_shape):
        self.token = self.add_weight(
            name="token",
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=self.stddev) if self.stddev else "zeros",
        )

    def call(self, tokens):
        token = ops.broadcast_to(ops.cast(self.token, tokens.dtype), (ops.shape(tokens)[0], 1, self.token.shape[-1]))
        return ops.concatenate([token, tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, input_shape[2])

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}
