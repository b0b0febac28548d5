"""What a plan says of a layer, in the terms of a file: the operator and the ranges of its tensors."""

from dataclasses import dataclass

PRODUCT = "PRODUCT"  # Stands for any operator that multiplies matrices.

Range = tuple[float, float]  # The smallest and the largest value.


@dataclass(frozen=True)
class Int8Operation:
    """What a layer computes in int8.

    Attributes:
        operator: The name of its TensorFlow Lite operator, or `PRODUCT` for any product of matrices.
        inputs: The range of each input.
        output: The range of the output.
    """

    operator: str
    inputs: list[Range]
    output: Range
