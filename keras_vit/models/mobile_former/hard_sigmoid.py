"""The hard sigmoid (Howard et al., arXiv 1905.02244, section 5.2)."""

import keras

from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.scale import Scale, Shift


@keras.saving.register_keras_serializable("keras_vit")
class HardSigmoid(SequentialComposite):
    """Compute limit * relu6(x + 3) / 6, a number from 0 to `limit`.

    It consists of separate layers, so `keras_vit.fuse` moves the 3 into the bias of the layer before it, and a device
    computes the ReLU6 together with that layer.

    Args:
        limit: The largest value.

    Input and output: any shape.
    """

    def __init__(self, limit: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "shift": Shift(3.0, dtype=dtype, name="shift"),
                "relu6": keras.layers.Activation("relu6", dtype=dtype, name="relu6"),
                "scale": Scale(limit / 6, dtype=dtype, name="scale"),
            }
        )

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}
