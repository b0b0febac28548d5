"""The mask of locality self-attention (Lee et al., arXiv 2112.13492, section 3.3)."""

import keras
import numpy as np
from keras import ops

# A power of two that float16 can represent, so that it is the same number in every file. Scores are much smaller, so
# that after the softmax has subtracted the largest one, the exponential is 0 even in float32.
_BELOW = -(2.0**15)


@keras.saving.register_keras_serializable("keras_vit")
class DiagonalMask(keras.layers.Layer):
    """Mask the score of each token for itself, so that a softmax over the last axis makes it 0.

    It is a layer of its own between product and softmax, which quantization leaves in float, so that the int8 range of
    the product has to span only the scores. Its dtype should be that of the softmax, float32 or higher.

    Input and output: (..., tokens, tokens), with 2 tokens or more.

    Raises:
        ValueError: The input has another shape.
    """

    def build(self, input_shape):
        if input_shape[-1] != input_shape[-2] or input_shape[-1] is None or input_shape[-1] < 2:
            raise ValueError(
                "DiagonalMask expects scores (..., tokens, tokens) of 2 tokens or more; "
                f"received the shape {tuple(input_shape)}."
            )

    def call(self, scores):
        mask = np.eye(scores.shape[-1], dtype="float32") * np.float32(_BELOW)
        return scores + ops.convert_to_tensor(mask, scores.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()
