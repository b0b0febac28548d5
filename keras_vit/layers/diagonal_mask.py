"""The mask of locality self-attention (Lee et al., arXiv 2112.13492, section 3.3)."""

import keras
import numpy as np
from keras import ops

# A power of two that float16 holds, so that it is the same number in every file. Scores are smaller by far, and after
# the softmax has taken off the largest one, the exponential of what is left is 0 even in float32.
_BELOW = -(2.0**15)


@keras.saving.register_keras_serializable("keras_vit")
class DiagonalMask(keras.layers.Layer):
    """Puts the score of each token for itself so low that a softmax over the last axis makes it 0.

    It is an addition of its own between product and softmax, which quantization leaves in float: the int8 grid of the
    product spans the scores alone. Give it a dtype of float32 at least, as the softmax behind it has.

    Input and output: (..., tokens, tokens), at least 2 tokens.
    """

    def build(self, input_shape):
        if input_shape[-1] != input_shape[-2] or input_shape[-1] is None or input_shape[-1] < 2:
            raise ValueError(
                "DiagonalMask takes scores (..., tokens, tokens) of at least 2 tokens for each other; "
                f"received the shape {tuple(input_shape)}."
            )

    def call(self, scores):
        mask = np.eye(scores.shape[-1], dtype="float32") * np.float32(_BELOW)
        return scores + ops.convert_to_tensor(mask, scores.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):  # Keras cannot do without it for a layer that was given a dtype policy.
        return super().get_config()
