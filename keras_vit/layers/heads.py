"""Reshape tokens to attention heads and back, with at most four axes and the batch first."""

from keras import ops


def split_heads(tokens, num_heads: int, groups: int = 1):
    """Return tokens (batch, tokens, width) as (batch, groups * heads, tokens / groups, width / heads).

    A head is a run of neighboring channels. Token i belongs to group i modulo `groups`, and each group has heads of its
    own.
    """
    _, count, width = tokens.shape
    heads = ops.reshape(tokens, (-1, count // groups, groups * num_heads, width // num_heads))
    return ops.transpose(heads, (0, 2, 1, 3))


def merge_heads(heads, groups: int = 1):
    """Return heads (batch, groups * heads, tokens / groups, width / heads) as tokens (batch, tokens, width)."""
    _, num_heads, count, head_dim = heads.shape
    return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, count * groups, num_heads // groups * head_dim))
