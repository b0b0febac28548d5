"""Neighborhood attention (Hassani et al., arXiv 2204.07143, section 3.1; dilated: arXiv 2209.15001, section 3.1)."""

import math
from dataclasses import asdict

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.nat.neighborhood_bias import RelativeNeighborhoodBias
from keras_vit.models.nat.neighborhood_moves import NeighborhoodPartition, NeighborhoodReverse
from keras_vit.models.nat.neighborhoods import Neighborhoods


@keras.saving.register_keras_serializable("keras_vit")
class NeighborhoodAttention(Composite):
    """Compute softmax attention of each pixel of a map to its neighborhood, with a relative position bias.

    The map is divided into blocks of queries. Each block attends to its own pixels and those around it that any of its
    neighborhoods contains; a mask leaves only the neighborhood of each query. So the memory is linear in the number of
    pixels, and everything is a product of matrices. Blocks are beside the heads in one axis, so that the batch is
    always the first axis and no tensor has more than four axes, as mobile delegates require. The softmax computes in
    float32 or higher precision.

    Args:
        channels: Channels of the map.
        num_heads: Number of heads, a divisor of `channels`.
        size: (height, width) of the map. A side smaller than `kernel_size * dilation` is padded with zeros.
        kernel_size: Side of a neighborhood, odd.
        dilation: Rows and columns between the pixels of a neighborhood.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        block: (height, width) of a block of queries, or None for the fastest on a device. It does not change outputs.

    Input and output: (batch, height, width, channels).

    Raises:
        ValueError: The sizes do not fit each other.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        kernel_size: int = 7,
        dilation: int = 1,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        *,
        block: tuple[int, int] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % num_heads:
            raise ValueError(f"num_heads must divide channels; received num_heads={num_heads}, channels={channels}.")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be an odd number of 3 or more; received kernel_size={kernel_size}.")
        if dilation < 1:
            raise ValueError(f"dilation must be a positive number; received dilation={dilation}.")
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "kernel_size": kernel_size,
            "dilation": dilation,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "block": block,
        }
        self.channels = channels
        self.num_heads = num_heads
        self.neighborhoods = known = Neighborhoods.of(size, kernel_size, dilation, block)
        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")

        def padding(pixels, name):
            return keras.layers.ZeroPadding2D(pixels, dtype=dtype, name=name)

        if known.padded != known.size:
            self.pad = padding(known.missing, "pad")
        if any(map(any, known.query_padding)):
            self.query_pad = padding(known.query_padding, "query_pad")
        if any(map(any, known.key_padding)):
            self.key_pad = padding(known.key_padding, "key_pad")
            self.value_pad = padding(known.key_padding, "value_pad")
        shared = {"dilation": dilation, "grid": known.grid, "step": known.block, "dtype": dtype}
        self.query = keras.layers.Dense(channels, dtype=dtype, name="query")
        self.key = keras.layers.Dense(channels, dtype=dtype, name="key")
        self.value = keras.layers.Dense(channels, dtype=dtype, name="value")
        self.scale = Scale((channels // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.query_partition = NeighborhoodPartition(reach=known.block, name="query_partition", **shared)
        self.key_partition = NeighborhoodPartition(reach=known.reach, name="key_partition", **shared)
        self.value_partition = NeighborhoodPartition(reach=known.reach, name="value_partition", **shared)
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.bias = RelativeNeighborhoodBias(num_heads, asdict(known), dtype=full_precision, name="bias")
        self.softmax = AttentionSoftmax(dtype=full_precision, name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.reverse = NeighborhoodReverse(name="reverse", **shared)
        beyond = [
            (0, missing + below) for (_, missing), (_, below) in zip(known.missing, known.query_padding, strict=True)
        ]
        if any(map(any, beyond)):
            self.crop = keras.layers.Cropping2D(tuple(beyond), dtype=dtype, name="crop")
        self.projection = keras.layers.Dense(channels, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        known = self.neighborhoods
        if tuple(input_shape[1:]) != (*known.size, self.channels):
            raise ValueError(
                f"{type(self).__name__} expects (batch, {known.size[0]}, {known.size[1]}, {self.channels}); "
                f"received the shape {tuple(input_shape)}."
            )
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(input_shape)
        self.scale.build(input_shape)
        areas = (math.prod(known.block), math.prod(known.reach))
        self.bias.build((input_shape[0], self.num_heads * known.count, *areas))

    def call(self, inputs):
        maps = self.pad(inputs) if hasattr(self, "pad") else inputs
        query = self._heads("query", self.scale(self.query(maps)))
        key, value = self._heads("key", self.key(maps)), self._heads("value", self.value(maps))
        probabilities = self.attention_dropout(self.softmax(self.bias(self.scores(query, key))))
        context = self.context(probabilities, value)
        pixels = self.neighborhoods.count * math.prod(self.neighborhoods.block)
        context = ops.reshape(context, (-1, self.num_heads, pixels, context.shape[-1]))
        maps = self.reverse(merge_heads(context))
        maps = self.crop(maps) if hasattr(self, "crop") else maps
        return self.dropout(self.projection(maps))

    def _heads(self, name, maps):
        """Return queries, keys or values as (batch, heads * blocks, pixels of a block, head width)."""
        if hasattr(self, f"{name}_pad"):
            maps = getattr(self, f"{name}_pad")(maps)
        tokens = getattr(self, f"{name}_partition")(maps)
        heads = split_heads(tokens, self.num_heads)
        count = self.neighborhoods.count
        return ops.reshape(heads, (-1, self.num_heads * count, tokens.shape[1] // count, heads.shape[-1]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
