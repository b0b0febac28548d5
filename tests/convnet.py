"""A small convolutional network from layers of keras_vit, as a user might build it."""

import keras

from keras_vit.layers import Composite, ConvNorm


@keras.saving.register_keras_serializable("tests")
class DoubleConv(Composite):
    """Compute two convolutions, of which the first may have a stride."""

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.first = ConvNorm(filters, 3, strides, activation="relu", dtype=self.dtype_policy, name="first")
        self.second = ConvNorm(filters, 3, activation="relu", dtype=self.dtype_policy, name="second")

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))

    def call(self, inputs):
        return self.second(self.first(inputs))

    def compute_output_shape(self, input_shape):
        return self.second.compute_output_shape(self.first.compute_output_shape(input_shape))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def convnet(input_shape=(32, 48, 3), classes=5) -> keras.Model:
    """Build a network with maps of stride 2, 4, 4 and 8."""
    images = keras.Input(input_shape, name="image")
    x = ConvNorm(4, 3, strides=2, activation="relu", name="stem")(images)
    x = DoubleConv(6, 2, name="stage_1")(x)
    x = DoubleConv(6, name="stage_2")(x)
    x = DoubleConv(8, 2, name="stage_3")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    x = keras.layers.Dense(classes, name="head")(x)
    return keras.Model(images, keras.layers.Activation("softmax", name="predictions")(x), name="convnet")
