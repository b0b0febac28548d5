"""BEiT: predict the codes of hidden patches (Bao et al., arXiv 2106.08254).

Reference code: microsoft/unilm, MIT.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_vit.layers import LayerNorm, PatchEmbedding, TransformerBlock
from keras_vit.models.model_images import image_conversion
from keras_vit.training.self_supervised.encoder import InferenceModel
from keras_vit.training.self_supervised.masking import taken

_HEAD = "code_head"


def masked_image_model(
    encoder: keras.Model,
    tokenizer: keras.Model | None = None,
    *,
    vocabulary: int = 8192,
    mask_ratio: float = 75 / 196,
    name: str = "masked_image_model",
) -> keras.Model:
    """Build the model that BEiT's pre-training trains (Bao et al., arXiv 2106.08254, section 2.3).

    A learned token replaces the embeddings of the hidden patches. From the encoder's normalized outputs at their
    places, a linear layer predicts the codes that a tokenizer gives the hidden patches. After training, the encoder is
    the result; it has the same layers and weights.

    Args:
        encoder: A model of the BEiT family that returns all tokens: `include_top=False` and `pooling=None`. The
            authors' encoders have `shared_positions=True`.
        tokenizer: A model that gives scores (batch, patches, codes) for the same images, such as one that the method
            "tokenizer" of `pretrain` trains. It is frozen. None makes the codes an input.
        vocabulary: The number of codes if they are an input.
        mask_ratio: The fraction of the patches that is hidden: the authors hide 75 of 196.
        name: The name of the model.

    Returns:
        A functional model. Its inputs are images, as the encoder takes them; without a tokenizer, their codes (batch,
        patches), integers; and the places of the hidden patches (batch, hidden patches), integers that count from 0.
        The output is the loss of each image (batch, 1): the mean cross-entropy of the codes of its hidden patches.

    Raises:
        ValueError: If the encoder does not return all tokens of a BEiT, the tokenizer is for other images, or the mask
            ratio is out of range.
    """
    layers = [layer for layer in encoder.layers if not isinstance(layer, keras.layers.InputLayer)]
    embedding = next((layer for layer in layers if isinstance(layer, PatchEmbedding)), None)
    last = layers[-1]
    # Only a block of the BEiT family knows the grid of the patches.
    if embedding is None or not isinstance(last, TransformerBlock) or not hasattr(last, "grid"):
        raise ValueError(
            "The encoder must be a model of the BEiT family that returns all tokens, such as "
            f"keras_vit.BEiT_B16(include_top=False); received {encoder.name}, whose last layer is {last.name!r}."
        )
    patches, dtype = last.grid[0] * last.grid[1], last.dtype_policy

    images = keras.Input(encoder.input_shape[1:], name="image")
    hidden = keras.Input((hidden_count(patches, mask_ratio),), dtype="int32", name="hidden")
    if tokenizer is None:
        codes = keras.Input((patches,), dtype="int32", name="codes")
        inputs = [images, codes, hidden]
    else:
        codes, vocabulary = _codes(tokenizer, encoder, images, patches), tokenizer.output.shape[-1]
        inputs = [images, hidden]
    x = images
    for layer in layers:
        x = layer(x)
        if layer is embedding:
            x = MaskToken(dtype=dtype, name="mask_token")(x, hidden)
    x = LayerNorm(last.settings["epsilon"], dtype=dtype, name="norm")(x)
    x = HiddenTokens(1, dtype=dtype, name="hidden_tokens")(x, hidden)
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    x = keras.layers.Dense(vocabulary, kernel_initializer=initializer, dtype=dtype, name=_HEAD)(x)
    return keras.Model(inputs, CodeLoss(dtype="float32", name="loss")(x, codes, hidden), name=name)


def scores_of(model: keras.Model) -> keras.Model:
    """Return the model that gives the scores of the hidden patches' codes (batch, hidden patches, codes).

    Args:
        model: A `masked_image_model`.
    """
    return keras.Model(model.inputs, model.get_layer(_HEAD).output)


def hidden_count(patches: int, mask_ratio: float) -> int:
    """Return the number of hidden patches.

    Raises:
        ValueError: If no patch or every patch would be hidden.
    """
    count = round(patches * mask_ratio)
    if not 0 < count < patches:
        raise ValueError(
            f"mask_ratio must leave at least one patch visible and one hidden; received mask_ratio={mask_ratio} for "
            f"{patches} patches."
        )
    return count


def _codes(tokenizer, encoder, images, patches):
    """Return the codes (batch, patches) of images as the encoder takes them."""
    shapes = tuple(tokenizer.input_shape[1:]), tuple(tokenizer.output_shape[1:])
    if len(shapes[1]) != 2 or shapes[0] != tuple(encoder.input_shape[1:]) or shapes[1][0] != patches:
        raise ValueError(
            f"The tokenizer must take images of shape {tuple(encoder.input_shape[1:])} and give scores ({patches}, "
            f"codes), as one that was trained for this encoder does; {tokenizer.name} takes {shapes[0]} and gives "
            f"{shapes[1]}."
        )
    tokenizer.trainable = False
    conversion = image_conversion(encoder, tokenizer)
    if conversion is not None:
        factor, term = (values.tolist() for values in conversion)
        images = keras.layers.Rescaling(factor, term, dtype="float32", name="tokenizer_images")(images)
    scores = InferenceModel(tokenizer.input, tokenizer.output, name="tokenizer")(images)
    return Codes(name="codes")(scores)


@keras.saving.register_keras_serializable("keras_vit")
class MaskToken(keras.layers.Layer):
    """Replace hidden tokens with a learned token.

    Inputs: tokens (batch, patches, width), and the places of the hidden ones (batch, hidden patches), integers.
    Output: (batch, patches, width).
    """

    def build(self, tokens_shape, hidden_shape):
        self.token = self.add_weight(
            name="token", shape=(1, 1, tokens_shape[2]), initializer=keras.initializers.TruncatedNormal(stddev=0.02)
        )

    def call(self, tokens, hidden):
        is_hidden = ops.any(ops.expand_dims(hidden, 2) == ops.arange(tokens.shape[1], dtype=hidden.dtype), axis=1)
        return ops.where(ops.expand_dims(is_hidden, 2), ops.cast(self.token, tokens.dtype), tokens)

    def compute_output_shape(self, tokens_shape, hidden_shape):
        return tuple(tokens_shape)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class HiddenTokens(keras.layers.Layer):
    """Keep the tokens of hidden patches.

    Args:
        special: The number of special tokens before the patches.

    Inputs: tokens (batch, special tokens + patches, width), and the places of the hidden patches (batch, hidden
    patches), integers. Output: (batch, hidden patches, width).
    """

    def __init__(self, special: int, **kwargs):
        super().__init__(**kwargs)
        self.special = special

    def call(self, tokens, hidden):
        return taken(tokens, hidden + self.special)

    def compute_output_shape(self, tokens_shape, hidden_shape):
        return (tokens_shape[0], hidden_shape[1], tokens_shape[2])

    def get_config(self):
        return {**super().get_config(), "special": self.special}


@keras.saving.register_keras_serializable("keras_vit")
class Codes(keras.layers.Layer):
    """Return the code with the highest score at each place.

    Input: scores (batch, patches, codes). Output: (batch, patches), int32.
    """

    def call(self, scores):
        return ops.cast(ops.argmax(scores, axis=-1), "int32")

    def compute_output_spec(self, scores):
        return keras.KerasTensor(scores.shape[:-1], dtype="int32")

    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class CodeLoss(keras.layers.Layer):
    """Compute the mean cross-entropy of the codes of the hidden patches of each image (section 2.3, equation 2).

    Inputs: scores (batch, hidden patches, codes), codes (batch, patches), and the places of the hidden patches (batch,
    hidden patches), integers. Output: (batch, 1).
    """

    def call(self, scores, codes, hidden):
        targets = ops.take_along_axis(codes, hidden, axis=1)
        losses = ops.sparse_categorical_crossentropy(targets, scores, from_logits=True)
        return ops.mean(losses, axis=1, keepdims=True)

    def compute_output_shape(self, scores_shape, codes_shape, hidden_shape):
        return (scores_shape[0], 1)

    def get_config(self):
        return super().get_config()
