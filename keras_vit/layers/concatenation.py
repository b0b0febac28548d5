"""Concatenation of many tensors, a few at once."""

from keras import ops

_MOST = 5  # Tensors that the CPU delegate of LiteRT concatenates at once.


def concatenate(tensors: list, axis: int):
    """Concatenate tensors along an axis by operators that every device has."""
    while len(tensors) > 1:
        groups = [tensors[start : start + _MOST] for start in range(0, len(tensors), _MOST)]
        tensors = [ops.concatenate(group, axis=axis) if len(group) > 1 else group[0] for group in groups]
    return tensors[0]
