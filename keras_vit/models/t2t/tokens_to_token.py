"""The layers that turn an image into tokens step by step (Yuan et al., arXiv 2101.11986, section 3.1)."""

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.scale import Scale
from keras_vit.models.t2t.performer import PerformerAttention
from keras_vit.models.t2t.soft_split import SoftSplit

EPSILON = 1e-5  # Of every LayerNorm.
_PATCH_SIZE = 16  # The product of the strides of the three soft splits.
_FEATURES_PER_WIDTH = 0.5  # Random features of the performer.


class _Retokenizer(Composite):
    """Base class of a layer that lets tokens attend to each other and makes them narrower.

    The values take the place of the residual connection, since the input is wider than the output.

    Args:
        width: Width of the output.
        input_width: Width of the input.
        dropout_rate: Dropout rate after the attention's projection and the MLP.

    Input: (batch, rows, columns, input_width). Output: (batch, rows, columns, width).
    """

    value_bias: bool  # Whether the values have a bias.

    def __init__(self, width: int, input_width: int, dropout_rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"width": width, "input_width": input_width, "dropout_rate": dropout_rate}
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(EPSILON, dtype=dtype, name="norm1")
        self.value = keras.layers.Dense(width, use_bias=self.value_bias, dtype=dtype, name="value")
        self.make_attention(width, input_width)
        self.projection = keras.layers.Dense(width, dtype=dtype, name="projection")
        self.dropout1 = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout1")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(EPSILON, dtype=dtype, name="norm2")
        self.mlp = MLP(width, width, dtype=dtype, name="mlp")
        self.dropout2 = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout2")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def make_attention(self, width: int, input_width: int) -> None:
        """Make the parts of the attention."""
        raise NotImplementedError

    def build_attention(self, tokens_shape: tuple, values_shape: tuple) -> None:
        """Build the parts of the attention for (batch, tokens, input_width) and (batch, tokens, width)."""
        raise NotImplementedError

    def attend(self, tokens, values):
        """Return the context (batch, tokens, width) of normalized tokens and their values."""
        raise NotImplementedError

    def build(self, input_shape):
        batch, rows, columns, width = input_shape
        if width != self.settings["input_width"]:
            raise ValueError(
                f"{type(self).__name__} expects (batch, rows, columns, {self.settings['input_width']}); "
                f"received the shape {tuple(input_shape)}."
            )
        tokens, values = (batch, rows * columns, width), (batch, rows * columns, self.settings["width"])
        for part in (self.norm1, self.value):
            part.build(tokens)
        self.build_attention(tokens, values)
        for part in (self.projection, self.norm2, self.mlp):
            part.build(values)

    def call(self, maps):
        _, rows, columns, width = maps.shape
        normed = self.norm1(ops.reshape(maps, (-1, rows * columns, width)))
        values = self.value(normed)
        x = self.add1([values, self.dropout1(self.projection(self.attend(normed, values)))])
        x = self.add2([x, self.dropout2(self.mlp(self.norm2(x)))])
        return ops.reshape(x, (-1, rows, columns, self.settings["width"]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.settings["width"])

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class TokenPerformer(_Retokenizer):
    """Let tokens attend to each other by random features, and make them narrower.

    Args:
        width: Width of the output.
        input_width: Width of the input.
        dropout_rate: Dropout rate after the attention's projection and the MLP.

    Input: (batch, rows, columns, input_width). Output: (batch, rows, columns, width).
    """

    value_bias = True

    def make_attention(self, width, input_width):
        features = int(width * _FEATURES_PER_WIDTH)
        self.attention = PerformerAttention(width, features, dtype=self.dtype_policy, name="attention")

    def build_attention(self, tokens_shape, values_shape):
        self.attention.build(tokens_shape, values_shape)

    def attend(self, tokens, values):
        return self.attention(tokens, values)


@keras.saving.register_keras_serializable("keras_vit")
class TokenTransformer(_Retokenizer):
    """Let tokens attend to each other by softmax attention with a single head, and make them narrower.

    Args:
        width: Width of the output.
        input_width: Width of the input. The scores are divided by its square root, as in the authors' code.
        dropout_rate: Dropout rate after the attention's projection and the MLP.

    Input: (batch, rows, columns, input_width). Output: (batch, rows, columns, width).
    """

    value_bias = False

    def make_attention(self, width, input_width):
        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")
        self.query = keras.layers.Dense(width, use_bias=False, dtype=dtype, name="query")
        self.key = keras.layers.Dense(width, use_bias=False, dtype=dtype, name="key")
        self.scale = Scale(input_width**-0.5, dtype=dtype, name="scale")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = AttentionSoftmax(dtype=full_precision, name="softmax")
        self.context = MatMul(dtype=dtype, name="context")

    def build_attention(self, tokens_shape, values_shape):
        self.query.build(tokens_shape)
        self.key.build(tokens_shape)
        self.scale.build(values_shape)

    def attend(self, tokens, values):
        _, count, width = values.shape

        def with_head(vectors):
            return ops.reshape(vectors, (-1, 1, count, width))

        query, key = with_head(self.scale(self.query(tokens))), with_head(self.key(tokens))
        context = self.context(self.softmax(self.scores(query, key)), with_head(values))
        return ops.reshape(context, (-1, count, width))


RETOKENIZERS = {"performer": TokenPerformer, "transformer": TokenTransformer}


@keras.saving.register_keras_serializable("keras_vit")
class SoftSplits(SequentialComposite):
    """Split an image softly three times, with attention between the tokens before the second and the third.

    Args:
        width: Width of a token.
        channels: Channels of the images.
        token_width: Width of the tokens between the splits.
        tokens_attention: "performer" or "transformer".
        dropout_rate: Dropout rate in the attention between the splits.

    Input: (batch, height, width, channels), with a height and width that are multiples of 16.
    Output: (batch, height / 16, width / 16, width).
    """

    def __init__(
        self,
        width: int,
        channels: int,
        token_width: int = 64,
        tokens_attention: str = "performer",
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "channels": channels,
            "token_width": token_width,
            "tokens_attention": tokens_attention,
            "dropout_rate": dropout_rate,
        }
        dtype = self.dtype_policy
        kind = RETOKENIZERS[tokens_attention]
        between = {"width": token_width, "dropout_rate": dropout_rate, "dtype": dtype}
        self.set_sequence(
            {
                "pad0": keras.layers.ZeroPadding2D(2, dtype=dtype, name="pad0"),
                "split0": SoftSplit(7, 4, dtype=dtype, name="split0"),
                "attention1": kind(input_width=7 * 7 * channels, name="attention1", **between),
                "pad1": keras.layers.ZeroPadding2D(1, dtype=dtype, name="pad1"),
                "split1": SoftSplit(3, 2, dtype=dtype, name="split1"),
                "attention2": kind(input_width=3 * 3 * token_width, name="attention2", **between),
                "pad2": keras.layers.ZeroPadding2D(1, dtype=dtype, name="pad2"),
                "split2": SoftSplit(3, 2, dtype=dtype, name="split2"),
                "project": keras.layers.Dense(width, dtype=dtype, name="project"),
            }
        )

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class TokensToToken(PatchEmbedding):
    """Turn an image into tokens, each of a patch of 16 x 16 pixels and what is around it.

    Args:
        width: Width of a token.
        channels: Channels of the images.
        token_width: Width of the tokens between the splits.
        tokens_attention: How tokens attend to each other between the splits: "performer" or "transformer".
        dropout_rate: Dropout rate in the attention between the splits.

    Input: (batch, height, width, channels), where height and width are fixed multiples of 16.
    Output: (batch, height / 16 * width / 16, width), row by row.

    Raises:
        ValueError: The images have another size.
    """

    def __init__(
        self,
        width: int,
        channels: int = 3,
        token_width: int = 64,
        tokens_attention: str = "performer",
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        self.settings = {
            "width": width,
            "channels": channels,
            "token_width": token_width,
            "tokens_attention": tokens_attention,
            "dropout_rate": dropout_rate,
        }
        super().__init__(width, _PATCH_SIZE, **kwargs)

    def _projection(self):
        return SoftSplits(**self.settings, dtype=self.dtype_policy, name="projection")

    def get_config(self):
        config = {**super().get_config(), **self.settings}
        del config["patch_size"]
        return config
