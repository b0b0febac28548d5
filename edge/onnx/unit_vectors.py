"""Vectors divided by their length, which several families use."""

from __future__ import annotations


def unit_vectors(build, x, axis, smallest):
    """Return vectors along an axis divided by their length. `smallest` applies a bound to the squared length."""
    with build.float32():
        squares = build.reduce("ReduceSum", build.op("Mul", x, x), (axis,), keepdims=True)
        return build.op("Div", x, build.op("Sqrt", smallest(squares)))
