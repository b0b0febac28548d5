"""The Mobile-Former block (Chen et al., arXiv 2108.05895, section 3 and figure 3)."""

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.pooling import TokenPooling
from keras_vit.models.mobile_former.former import Former
from keras_vit.models.mobile_former.former_to_mobile import FormerToMobile
from keras_vit.models.mobile_former.mobile_bottleneck import DownsamplingBottleneck, MobileBottleneck
from keras_vit.models.mobile_former.mobile_to_former import MobileToFormer


@keras.saving.register_keras_serializable("keras_vit")
class MobileFormerBlock(Composite):
    """Compute convolutions (Mobile) and a transformer over few tokens (Former), with a bridge in each direction.

    The tokens attend to the block's input and then to each other. The dynamic ReLUs of the convolutions are computed
    from the first token, and the output of the convolutions attends to all tokens.

    Args:
        input_channels: Channels of the input.
        hidden_channels: Channels after the first convolution.
        channels: Channels of the output.
        width: Width of a token.
        strides: 1 to keep the resolution (`MobileBottleneck`) or 2 to halve it (`DownsamplingBottleneck`).
        groups: Number of groups of the pointwise convolutions.
        epsilon: Added to the variance in every LayerNorm.
        drop_path_rate: Rate of stochastic depth of the convolutions, the attention and both bridges.

    Inputs: features (batch, rows, columns, input_channels) and tokens (batch, tokens, width), all but the batch fixed.
    Outputs: features (batch, ceil(rows / strides), ceil(columns / strides), channels), and tokens of the input's
    shape.
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        channels: int,
        width: int,
        strides: int = 1,
        groups: int = 1,
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "input_channels": input_channels,
            "hidden_channels": hidden_channels,
            "channels": channels,
            "width": width,
            "strides": strides,
            "groups": groups,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
        }
        rest = {"drop_path_rate": drop_path_rate, "dtype": self.dtype_policy}
        self.mobile_to_former = MobileToFormer(input_channels, width, epsilon=epsilon, name="mobile_to_former", **rest)
        self.former = Former(width, epsilon=epsilon, name="former", **rest)
        self.token = TokenPooling(dtype=self.dtype_policy.name, name="token")
        if strides == 1:
            self.mobile = MobileBottleneck(
                input_channels, hidden_channels, channels, width, groups=groups, name="mobile", **rest
            )
        else:
            self.mobile = DownsamplingBottleneck(
                input_channels, hidden_channels, channels, width, strides, groups=groups, name="mobile", **rest
            )
        self.former_to_mobile = FormerToMobile(channels, name="former_to_mobile", **rest)

    def build(self, features_shape, tokens_shape):
        self.mobile_to_former.build(features_shape, tokens_shape)
        self.former.build(tokens_shape)
        token_shape = self.token.compute_output_shape(tokens_shape)
        self.mobile.build(features_shape, token_shape)
        self.former_to_mobile.build(self.mobile.compute_output_shape(features_shape, token_shape), tokens_shape)

    def call(self, features, tokens):
        tokens = self.former(self.mobile_to_former(features, tokens))
        features = self.mobile(features, self.token(tokens))
        return self.former_to_mobile(features, tokens), tokens

    def compute_output_shape(self, features_shape, tokens_shape):
        token_shape = self.token.compute_output_shape(tokens_shape)
        return self.mobile.compute_output_shape(features_shape, token_shape), tuple(tokens_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
