"""Cascaded group attention (Liu et al., arXiv 2305.07027, section 3.2 and figure 6)."""

import math

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.efficientvit_msra.attention_bias import AttentionBias


@keras.saving.register_keras_serializable("keras_vit")
class CascadedHead(Composite):
    """Compute one head of attention over the pixels of each window, with a depthwise convolution of the queries.

    The windows are stacked vertically. The convolution must see zeros between two windows, as at the borders of the
    map, so zeros are inserted there and removed afterwards.

    Args:
        channels: Channels of input and output.
        key_dim: Channels of a query and of a key.
        kernel_size: Side of the depthwise convolution's kernel, odd.
        window: Rows and columns of a window.
        windows: Number of windows.
        epsilon: Added to the variance in the batch normalizations.

    Input and output: (batch, windows * rows, columns, channels).
    """

    def __init__(
        self,
        channels: int,
        key_dim: int,
        kernel_size: int,
        window: tuple[int, int],
        windows: int,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "key_dim": key_dim,
            "kernel_size": kernel_size,
            "window": tuple(window),
            "windows": windows,
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        shared = {"epsilon": epsilon, "dtype": dtype}
        self.query = ConvNorm(key_dim, **shared, name="query")
        self.key = ConvNorm(key_dim, **shared, name="key")
        self.value = ConvNorm(channels, **shared, name="value")
        if windows > 1:
            gap = ((0, 0), (0, kernel_size // 2))
            self.pad = keras.layers.ZeroPadding2D(gap, dtype=dtype, name="pad")
            self.crop = keras.layers.Cropping2D(gap, dtype=dtype, name="crop")
        self.nearby = ConvNorm(key_dim, kernel_size, depthwise=True, input_channels=key_dim, **shared, name="nearby")
        self.scale = Scale(key_dim**-0.5, dtype=dtype, name="scale")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.bias = AttentionBias(window, dtype=dtype, name="bias")
        self.softmax = AttentionSoftmax(dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax")
        self.context = MatMul(dtype=dtype, name="context")

    def build(self, input_shape):
        for convolution in (self.query, self.key, self.value):
            convolution.build(input_shape)
        self.nearby.build(self.query.compute_output_shape(input_shape))
        pixels = math.prod(self.settings["window"])
        self.bias.build((input_shape[0], self.settings["windows"], pixels, pixels))

    def call(self, inputs):
        query = self._tokens(self._convolved(self.query(inputs)))
        scores = self.bias(self.scores(query, self._tokens(self.key(inputs))))
        context = self.context(self.softmax(scores), self._tokens(self.value(inputs)))
        return ops.reshape(context, (-1, *inputs.shape[1:]))

    def _convolved(self, query):
        if self.settings["windows"] == 1:
            return self.scale(self.nearby(query))
        _, rows, columns, channels = query.shape
        windows, height = self.settings["windows"], self.settings["window"][0]
        apart = self.pad(ops.reshape(query, (-1, windows, height, columns * channels)))
        padded = apart.shape[2]
        near = self.scale(self.nearby(ops.reshape(apart, (-1, windows * padded, columns, channels))))
        near = self.crop(ops.reshape(near, (-1, windows, padded, columns * channels)))
        return ops.reshape(near, (-1, rows, columns, channels))

    def _tokens(self, maps):
        return ops.reshape(maps, (-1, self.settings["windows"], math.prod(self.settings["window"]), maps.shape[3]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class CascadedGroupAttention(Composite):
    """Compute attention in windows, where each head takes its own channels plus the output of the previous head.

    A map that is not a multiple of the window is padded with zeros at the right and bottom, which take part in the
    attention.

    Args:
        channels: Channels of the map.
        num_heads: Number of heads, a divisor of `channels`.
        size: Rows and columns of the map.
        window: Largest side of a window; a smaller map is one window.
        key_dim: Channels of a query and of a key.
        kernel_sizes: Kernel size of the depthwise convolution of each head. There may be more sizes than heads.
        epsilon: Added to the variance in the batch normalizations.

    Input and output: (batch, rows, columns, channels).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        window: int = 7,
        key_dim: int = 16,
        kernel_sizes: tuple[int, ...] = (5, 5, 5, 5),
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % num_heads or len(kernel_sizes) < num_heads:
            raise ValueError(
                "num_heads must divide channels, and each head needs a kernel size; received "
                f"channels={channels}, num_heads={num_heads}, kernel_sizes={tuple(kernel_sizes)}."
            )
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "window": window,
            "key_dim": key_dim,
            "kernel_sizes": tuple(kernel_sizes),
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        height, width = size
        self.window = (min(window, height), min(window, width))
        self.grid = tuple(math.ceil(side / part) for side, part in zip(size, self.window, strict=True))
        self.padded = tuple(part * count for part, count in zip(self.window, self.grid, strict=True))
        if self.padded != tuple(size):
            missing = tuple((0, padded - side) for padded, side in zip(self.padded, size, strict=True))
            self.pad = keras.layers.ZeroPadding2D(missing, dtype=dtype, name="pad")
            self.crop = keras.layers.Cropping2D(missing, dtype=dtype, name="crop")
        for index in range(num_heads):
            if index:
                setattr(self, f"add_{index}", keras.layers.Add(dtype=dtype, name=f"add_{index}"))
            head = CascadedHead(
                channels // num_heads,
                key_dim,
                kernel_sizes[index],
                self.window,
                math.prod(self.grid),
                epsilon,
                dtype=dtype,
                name=f"head_{index}",
            )
            setattr(self, f"head_{index}", head)
        self.join = keras.layers.Concatenate(dtype=dtype, name="join")
        self.activation = keras.layers.Activation("relu", dtype=dtype, name="activation")
        self.project = ConvNorm(channels, epsilon=epsilon, gamma_initializer="zeros", dtype=dtype, name="project")

    def build(self, input_shape):
        if tuple(input_shape[1:]) != (*self.settings["size"], self.settings["channels"]):
            raise ValueError(
                f"CascadedGroupAttention expects (batch, {', '.join(map(str, self.settings['size']))}, "
                f"{self.settings['channels']}); received the shape {tuple(input_shape)}."
            )
        width = self.settings["channels"] // self.settings["num_heads"]
        rows = math.prod(self.grid) * self.window[0]
        for index in range(self.settings["num_heads"]):
            getattr(self, f"head_{index}").build((input_shape[0], rows, self.window[1], width))
        self.project.build(input_shape)

    def call(self, inputs):
        x = self._to_windows(inputs)
        width = self.settings["channels"] // self.settings["num_heads"]
        found = []
        for index in range(self.settings["num_heads"]):
            own = x[..., index * width : (index + 1) * width]
            if index:
                own = getattr(self, f"add_{index}")([own, found[-1]])
            found.append(getattr(self, f"head_{index}")(own))
        return self.project(self._from_windows(self.activation(self.join(found))))

    def _to_windows(self, maps):
        """Return the windows of a map, stacked vertically column by column."""
        if self.padded != self.settings["size"]:
            maps = self.pad(maps)
        rows, columns, channels = maps.shape[1:]
        across = self.grid[1]
        if across > 1:
            maps = ops.reshape(maps, (-1, rows, across, columns // across * channels))
            maps = ops.reshape(ops.transpose(maps, (0, 2, 1, 3)), (-1, across * rows, columns // across, channels))
        return maps

    def _from_windows(self, maps):
        rows, columns = self.padded
        across, channels = self.grid[1], maps.shape[3]
        if across > 1:
            maps = ops.reshape(maps, (-1, across, rows, columns // across * channels))
            maps = ops.reshape(ops.transpose(maps, (0, 2, 1, 3)), (-1, rows, columns, channels))
        return maps if self.padded == self.settings["size"] else self.crop(maps)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
