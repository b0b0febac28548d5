"""Where the values of a quantized model are rounded in the file."""

from __future__ import annotations

from keras_vit.edge.onnx.operations import AlongAxis, Elementwise, Quantize
from keras_vit.edge.onnx.program import Operation, Program, Tensor, Value


def skip_rounding_before_softmax(program: Program) -> None:
    """Let a softmax take the sums of a product as they are, not rounded to int8 first.

    In a .tflite file the product gives int8. TensorRT and onnxruntime compute in int8 and give float where no rounding
    follows; then the softmax computes in float, which is faster than converting to int8 and back, and more accurate.
    """
    users = program.users()
    for operation in program.operations:
        if isinstance(operation.kind, Quantize) and _only_for_softmax(operation.output, users):
            for user in users[operation.output]:
                _replace(user, operation.output, operation.inputs[0])
    program.remove_unused()


def round_for_each_user(program: Program) -> None:
    """Give each operation that takes an int8 value a rounding of its own.

    On x86-64, onnxruntime computes a product in int8 only if no other operation takes the same rounded input: queries,
    keys and values of an attention would compute in float. TensorRT merges the roundings.
    """
    users = program.users()
    operations: list[Operation] = []
    for operation in program.operations:
        operations.append(operation)
        if not isinstance(operation.kind, Quantize):
            continue
        for number, user in enumerate(users.get(operation.output, [])[1:], start=1):
            output = Value(operation.output.shape, operation.output.layer, full=operation.output.full)
            output.operation = Operation(
                Quantize(operation.kind.step, number), operation.inputs, output, operation.layer, operation.full
            )
            operations.append(output.operation)
            _replace(user, operation.output, Tensor(output))
    program.operations = operations


def _only_for_softmax(value: Value, users: dict[Value, list[Operation]]) -> bool:
    """Whether only a softmax uses a value, perhaps after constants were added."""
    return bool(users.get(value)) and all(
        (isinstance(user.kind, AlongAxis) and user.kind.op_type == "Softmax")
        or (
            isinstance(user.kind, Elementwise)
            and all(tensor.value is value or tensor.constant is not None for tensor in user.inputs)
            and _only_for_softmax(user.output, users)
        )
        for user in users[value]
    )


def _replace(user: Operation, old: Value, new: Tensor) -> None:
    """Let an operation take another tensor in place of a value, rearranged as before."""
    for index, tensor in enumerate(user.inputs):
        if tensor.value is old:
            user.inputs[index] = new.viewed_as(tensor)
