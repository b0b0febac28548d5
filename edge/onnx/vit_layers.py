"""Writers of the layers that families share, for what `keras_vit.fuse` leaves of a model."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.layers import (
    Affine,
    ClassToken,
    DiagonalMask,
    FloatMatMul,
    Fold,
    GroupNorm,
    HeadScale,
    LayerNorm,
    LayerScale,
    LearnedTokens,
    MatMul,
    PositionEmbedding,
    Preprocessing,
    RegisterTokens,
    Resize,
    ResizeToEven,
    RMSNorm,
    Scale,
    Shift,
    TokenPooling,
    Unfold,
)
from keras_vit.layers.diagonal_mask import _BELOW
from keras_vit.layers.pooling import AdaptiveAveragePooling
from keras_vit.layers.window_bias import WindowBias
from keras_vit.layers.window_moves import WindowPartition, WindowReverse
from keras_vit.utils.normalization import scale_and_offset


@register_onnx_writer(LayerNorm)
def _layer_norm(build, layer, x):
    scale = array(layer.gamma) if layer.affine else np.ones(x.shape[-1], np.float32)
    shift = array(layer.beta) if layer.affine else None
    # Where `subtract_mean` is False, `keras_vit.fuse` has made sure that the mean is zero, so that subtracting it, as
    # LayerNormalization does, changes nothing. In a quantized model, rounding leaves a small mean.
    if build.rounded and not layer.subtract_mean:
        return build.rms_norm(x, scale, shift, layer.epsilon)
    return build.layer_norm(x, scale, shift, layer.epsilon)


@register_onnx_writer(RMSNorm)
def _rms_norm(build, layer, x):
    scale = array(layer.gamma) if layer.affine else np.ones(x.shape[-1], np.float32)
    return build.rms_norm(x, scale, None, layer.epsilon)


@register_onnx_writer(GroupNorm)
def _group_norm(build, layer, x):
    normalized = build.image_norm(x, layer.epsilon)
    return _affine(build, layer, normalized) if layer.affine else normalized


@register_onnx_writer(Affine)
def _affine(build, layer, x):
    return build.op("Add", build.op("Mul", x, array(layer.gamma)), array(layer.beta))


@register_onnx_writer(LayerScale)
def _layer_scale(build, layer, x):
    return build.op("Mul", x, array(layer.gamma))


@register_onnx_writer(HeadScale)
def _head_scale(build, layer, x):
    return build.op("Mul", x, np.repeat(array(layer.gamma), x.shape[-1] // layer.num_heads))


@register_onnx_writer(Scale)
def _scale(build, layer, x):
    return build.op("Mul", x, layer.factor)


@register_onnx_writer(Shift)
def _shift(build, layer, x):
    return build.op("Add", x, layer.offset)


@register_onnx_writer(Preprocessing)
def _preprocessing(build, layer, x):
    if not layer.normalize:
        return x
    scale, offset = (np.float32(values) for values in scale_and_offset(layer.mean, layer.std, x.shape[-1]))
    return build.op("Add", build.op("Mul", x, scale), offset)


@register_onnx_writer(PositionEmbedding)
def _position_embedding(build, layer, x):
    return build.op("Add", x, array(layer.table))


@register_onnx_writer(ClassToken)
def _class_token(build, layer, x):
    return build.concat([array(layer.token), x], axis=1)


@register_onnx_writer(RegisterTokens)
def _register_tokens(build, layer, x):
    before = [build.slice(x, 1, 0, layer.after)] if layer.after else []
    return build.concat([*before, array(layer.tokens), build.slice(x, 1, layer.after, None)], axis=1)


@register_onnx_writer(LearnedTokens)
def _learned_tokens(build, layer, x):
    tokens = array(layer.tokens)
    return np.broadcast_to(tokens, (build.batch_size, *tokens.shape))


@register_onnx_writer(TokenPooling)
def _token_pooling(build, layer, x):
    token = build.slice(x, 1, layer.index, layer.index + 1)
    return build.reshape(token, (build.batch_size, x.shape[-1]))


@register_onnx_writer(MatMul, FloatMatMul)
def _matmul(build, layer, a, b):
    return build.matmul(a, build.swap_last(b) if layer.transpose_b else b)


@register_onnx_writer(DiagonalMask)
def _diagonal_mask(build, layer, x):
    return build.op("Add", x, np.eye(x.shape[-1], dtype=np.float32) * np.float32(_BELOW))


@register_onnx_writer(Resize)
def _resize(build, layer, x):
    return build.resize(x, layer.height, layer.width)


@register_onnx_writer(ResizeToEven)
def _resize_to_even(build, layer, x):
    for axis in (1, 2):
        size = x.shape[axis]
        if size % 2:
            moved = (np.arange(size + 1, dtype=np.float32) / size).reshape([-1 if a == axis else 1 for a in range(4)])
            after, before = ([pad if a == axis else (0, 0) for a in range(4)] for pad in ((0, 1), (1, 0)))
            x = build.op(
                "Add",
                build.op("Mul", build.pad(x, after), 1 - moved),
                build.op("Mul", build.pad(x, before), moved),
            )
    return x


@register_onnx_writer(Unfold)
def _unfold(build, layer, x):
    batch, height, width, channels = x.shape
    patches = build.reshape(x, (batch, height // 2, 2, width // 2, 2, channels))
    return build.reshape(build.transpose(patches, (0, 1, 3, 2, 4, 5)), (batch, height * width, channels))


@register_onnx_writer(Fold)
def _fold(build, layer, x):
    batch, channels = x.shape[0], x.shape[-1]
    patches = build.reshape(x, (batch, layer.height // 2, layer.width // 2, 2, 2, channels))
    maps = build.transpose(patches, (0, 1, 3, 2, 4, 5))
    return build.reshape(maps, (batch, layer.height, layer.width, channels))


@register_onnx_writer(WindowBias)
def _window_bias(build, layer, scores):
    bias, area = array(layer.bias), layer.windows.area
    repeated = np.broadcast_to(bias, (bias.shape[0], layer.windows.count, bias.shape[2]))
    return build.op("Add", scores, repeated.reshape(-1, area, area))


@register_onnx_writer(WindowPartition)
def _window_partition(build, layer, maps):
    batch, height, width, channels = maps.shape
    windows = build.reshape(maps, (batch, height, width // layer.width, layer.width, channels))
    return build.reshape(build.transpose(windows, (0, 2, 1, 3, 4)), (batch, height * width, channels))


@register_onnx_writer(WindowReverse)
def _window_reverse(build, layer, tokens):
    (height, width), channels = layer.size, tokens.shape[-1]
    windows = build.reshape(tokens, (-1, width // layer.width, height, layer.width, channels))
    return build.reshape(build.transpose(windows, (0, 2, 1, 3, 4)), (-1, height, width, channels))


@register_onnx_writer(AdaptiveAveragePooling)
def _adaptive_average_pooling(build, layer, maps):
    batch, height, width, channels = maps.shape
    if height % layer.side == 0 and width % layer.side == 0:
        window = (height // layer.side, width // layer.side)
        return maps if window == (1, 1) else build.pooling(maps, "AveragePool", window, window, "valid")
    with build.float32():
        rows, columns = (build.tensor(layer.window_means(size)) for size in (height, width))
        maps = build.matmul(rows, build.reshape(maps, (batch, height, width * channels)))
        return build.matmul(columns, build.reshape(maps, (batch, layer.side, width, channels)))
