"""The loss of iGPT: the cross-entropy of each pixel, given those before it (Chen et al., 2020, section 2.2)."""

import keras
from keras import ops

from keras_vit.models.igpt.colors import color_layer


@keras.saving.register_keras_serializable("keras_vit")
class NextColorLoss(keras.layers.Layer):
    """Compute the mean cross-entropy of the predicted colors of an image.

    Inputs: logits (batch, pixels, colors), and the colors of the pixels as `NearestColor` gives them, of the same
    shape. Output: (batch, 1), in float32.
    """

    def call(self, logits, colors):
        likelihoods = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        entropies = -ops.sum(likelihoods * ops.cast(colors, "float32"), axis=-1)
        return ops.mean(entropies, axis=-1, keepdims=True)

    def compute_output_shape(self, logits_shape, colors_shape):
        return (logits_shape[0], 1)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


def next_color_model(model: keras.Model) -> keras.Model:
    """Return the model of the loss that an iGPT is trained with. It shares all weights.

    Args:
        model: An iGPT that predicts colors: `include_top=False, predict_colors=True`.

    Returns:
        A functional model with the input of `model`. Its output is the loss of each image, (batch, 1): the mean over
        its pixels of the cross-entropy of their colors, in nats.

    Raises:
        ValueError: The model does not predict colors.
    """
    colors = color_layer(model).output
    check_predicts_colors(model)
    loss = NextColorLoss(dtype="float32", name="loss")(model.output, colors)
    return keras.Model(model.input, loss, name=f"{model.name}_loss")


def check_predicts_colors(model: keras.Model) -> None:
    """Check that an iGPT predicts colors.

    Raises:
        ValueError: It does not.
    """
    if model.layers[-1].name != "color_head":
        raise ValueError(
            "The model must predict colors, such as keras_vit.iGPT_S(include_top=False, predict_colors=True); received "
            f"{model.name!r}, which ends with {model.layers[-1].name!r}."
        )
