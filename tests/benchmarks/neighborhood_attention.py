"""Compare forms of neighborhood attention on the CPU, at the maps of NAT_Mini and DiNAT_Mini for 224 x 224 pixels.

The layer divides a map into blocks of queries, which attend to the pixels around the block, and masks the rest. A block
as large as the map is a dense product with a mask. The other form shifts keys and values once for each pixel of the
neighborhood, and multiplies element by element.
"""

import os
import sys
import tempfile

import keras
import numpy as np
from keras import ops

from keras_vit.utils.tables import table
from tests.benchmarks.weights import randomize

MAPS = (  # Side of the map, channels, heads, dilation.
    (56, 64, 2, 1),
    (28, 128, 4, 1),
    (14, 256, 8, 1),
    (7, 512, 16, 1),
    (56, 64, 2, 8),
    (28, 128, 4, 4),
    (14, 256, 8, 2),
)
BLOCKS = (4, 7, 8, 14, 28)
PRECISIONS = ("float32", "hybrid_int8")


class ShiftedSlices(keras.layers.Layer):
    """Compute neighborhood attention of maps (batch, height, width, heads * head width) by shifted slices."""

    def __init__(self, num_heads: int, kernel_size: int, dilation: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.kernel_size, self.dilation = num_heads, kernel_size, dilation

    def shifted(self, maps, axis: int, offset: int):
        """Return the key of each pixel that is at an offset from the beginning of its neighborhood.

        Near the border, neighborhoods begin at the same pixel of their class, so the slice is repeated there.
        """
        side, step, half = maps.shape[axis], self.dilation, self.kernel_size // 2
        start, count = step * offset, side - 2 * half * step

        def cut(start, count):
            return maps[:, start : start + count] if axis == 1 else maps[:, :, start : start + count]

        first, last = cut(start, step), cut(start + count - step, step)
        before, after = (ops.concatenate([part] * half, axis=axis) for part in (first, last))
        return ops.concatenate([before, cut(start, count), after], axis=axis)

    def call(self, query, key, value):
        _, height, width, channels = query.shape
        heads = (-1, height, width * self.num_heads, channels // self.num_heads)
        query = ops.reshape(query, heads)
        offsets = [(row, column) for row in range(self.kernel_size) for column in range(self.kernel_size)]

        def neighbors(maps):
            by_row = [self.shifted(maps, 1, row) for row in range(self.kernel_size)]
            return [ops.reshape(self.shifted(by_row[row], 2, column), heads) for row, column in offsets]

        scores = [ops.sum(query * near, axis=-1, keepdims=True) for near in neighbors(key)]
        while len(scores) > 1:  # The CPU delegate concatenates five tensors at once.
            groups = [scores[start : start + 5] for start in range(0, len(scores), 5)]
            scores = [ops.concatenate(group, axis=-1) if len(group) > 1 else group[0] for group in groups]
        shares = ops.softmax(scores[0])
        context = sum(shares[..., i : i + 1] * near for i, near in enumerate(neighbors(value)))
        return ops.reshape(context, (-1, height, width, channels))


def _with_blocks(side, channels, heads, dilation, block):
    from keras_vit.models.nat.neighborhood_attention import NeighborhoodAttention

    maps = keras.Input((side, side, channels))
    layer = NeighborhoodAttention(channels, heads, (side, side), 7, dilation, block=(block, block))
    return keras.Model(maps, layer(maps))


def _with_slices(side, channels, heads, dilation):
    maps = keras.Input((side, side, channels))
    query, key, value = (keras.layers.Dense(channels)(maps) for _ in range(3))
    context = ShiftedSlices(heads, 7, dilation)(query, key, value)
    return keras.Model(maps, keras.layers.Dense(channels)(context))


def _milliseconds(model, folder, precisions):
    from keras_vit import edge

    randomize(model)
    maps = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:])).astype("float32")
    paths = []
    for precision in precisions:
        calibration = {"calibration_data": maps} if precision == "hybrid_int8" else {}
        path = os.path.join(folder, f"{precision}.tflite")
        paths.append(edge.export(model, path, precision=precision, verify=False, **calibration))
    return [result.p50_ms for result in edge.benchmark(paths)], os.path.getsize(paths[0]) / 1e6


def main(sides=None) -> None:
    from keras_vit.models.nat.neighborhoods import Neighborhoods

    sides = sides or {side for side, *_ in MAPS}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side, channels, heads, dilation in (size for size in MAPS if size[0] in sides):
            whole = side // dilation
            chosen = Neighborhoods.of((side, side), 7, dilation).block[0]
            for block in (*(block for block in BLOCKS if block < whole), whole):
                model = _with_blocks(side, channels, heads, dilation, block)
                times, size = _milliseconds(model, folder, PRECISIONS)
                form = "dense" if block == whole else f"blocks of {block} x {block}"
                name = f"{side} x {side}, dilation {dilation}"
                rows.append((name, form, *(f"{ms:.2f}" for ms in times), f"{size:.2f}", "yes" * (block == chosen)))
                print(*rows[-1], sep=", ", file=sys.stderr)
            times, size = _milliseconds(_with_slices(side, channels, heads, dilation), folder, PRECISIONS[:1])
            rows.append((f"{side} x {side}, dilation {dilation}", "slices", f"{times[0]:.2f}", "", f"{size:.2f}", ""))
            print(*rows[-1], sep=", ", file=sys.stderr)
    print(table(("map", "form", "float32 ms", "hybrid_int8 ms", "float32 MB", "chosen"), rows))
