"""Moving windows that are stacked with zeros between them to the batch.

`keras_vit` keeps the batch alone on its axis, so a depthwise convolution over several windows of a map stacks them
vertically, with rows of zeros between them. An ONNX file has a fixed batch size, so that the windows can be images of a
larger batch: neither the zeros nor the transposes that would stack the windows are needed.
"""

from __future__ import annotations

import math

from keras_vit.edge.onnx.operations import ChannelsFirst, Elementwise, Pad, Quantize, Slice
from keras_vit.edge.onnx.program import Operation, Program, Tensor
from keras_vit.edge.onnx.rearrangement import reshape


def move_windows_to_the_batch(program: Program) -> None:
    """Let each convolution over stacked windows take them as images.

    It is one if the zeros below each window are as many as its kernel reaches down, and are cut off again afterwards.
    """
    users = program.users()
    for operation in program.operations:
        found = _stacked(operation, users)
        if found is not None:
            pad, through, cut = found
            _separate(operation, pad, through, cut, users)
    program.remove_unused()


def _stacked(convolution, users):
    """Return the zeros before a convolution over stacked windows, and the operations up to the cut; None for others."""
    kind = convolution.kind
    if not isinstance(kind, ChannelsFirst) or kind.op_type != "Conv" or set(kind.attributes["strides"]) != {1}:
        return None
    tensor = convolution.inputs[0]
    pad, shape = tensor.value.operation, tensor.shape
    if pad is None or not isinstance(pad.kind, Pad) or not all(view.is_reshape for view in tensor.views):
        return None
    if len(pad.kind.pads) != 4 or any(map(any, (*pad.kind.pads[:2], pad.kind.pads[3]))) or pad.kind.pads[2][0]:
        return None
    batch, windows, padded, _ = pad.output.shape
    reach = max(kind.attributes["pads"][0], kind.attributes["pads"][2])
    if shape[:2] != (batch, windows * padded) or pad.kind.pads[2][1] < reach:
        return None
    if convolution.output.shape[1:3] != shape[1:3]:
        return None
    through: list[Operation] = []
    value = convolution.output
    while True:
        if len(users.get(value, [])) != 1:
            return None
        (user,) = users[value]
        if isinstance(user.kind, Slice):
            break
        if not isinstance(user.kind, (Quantize, Elementwise)) or len(user.inputs) != 1 or user.inputs[0].views:
            return None
        through.append(user)
        value = user.output
    cut = user
    rows = padded - pad.kind.pads[2][1]
    viewed = cut.inputs[0]
    if (cut.kind.axis, cut.kind.start, cut.kind.stop, cut.kind.step) != (2, 0, rows, 1):
        return None
    if viewed.shape[:3] != (batch, windows, padded) or not all(view.is_reshape for view in viewed.views):
        return None
    return pad, through, cut


def _separate(convolution, pad, through, cut, users):
    batch, windows, rows, _ = pad.inputs[0].shape
    columns, channels = convolution.inputs[0].shape[2:]
    source = pad.inputs[0]
    convolution.inputs[0] = source.viewed(reshape(source.shape, (batch * windows, rows, columns, channels)))
    for operation in (convolution, *through):
        operation.output.shape = (batch * windows, rows, columns, operation.output.shape[3])
    last = through[-1].output if through else convolution.output
    columns_and_channels = math.prod(last.shape[2:])
    whole = Tensor(last).viewed(reshape(last.shape, (batch, windows, rows, columns_and_channels)))
    for user in users.get(cut.output, []):
        user.inputs = [whole.viewed_as(tensor) if tensor.value is cut.output else tensor for tensor in user.inputs]
