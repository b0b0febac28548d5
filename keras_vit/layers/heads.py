"""Between tokens and attention heads: plain layout, at rank 4 and with the batch first."""

from keras import ops


def split_heads(tokens, num_heads: int, groups: int = 1):
    """(batch, tokens, dim) to (batch, groups * heads, tokens / groups, dim / heads).

    A head is a run of neighbouring channels. Each group of tokens has heads of its own; the tokens fall into groups in
    turn.
    """
    _, count, dim = tokens.shape
    return ops.transpose(ops.reshape(tokens, (-1, count // groups, groups * num_heads, dim // num_heads)), (0, 2, 1, 3))


def merge_heads(heads, groups: int = 1):
    """(batch, groups * heads, tokens / groups, dim / heads) to (batch, tokens, dim)."""
    _, num_heads, count, head_dim = heads.shape
    return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, count * groups, num_heads // groups * head_dim))
