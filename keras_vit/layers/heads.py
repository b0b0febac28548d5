"""Between tokens and attention heads: plain layout, at rank 4 and with the batch first."""

from keras import ops


def split_heads(tokens, num_heads: int):
    """(batch, tokens, dim) to (batch, heads, tokens, dim / heads); a head is a run of neighbouring channels."""
    _, count, dim = tokens.shape
    return ops.transpose(ops.reshape(tokens, (-1, count, num_heads, dim // num_heads)), (0, 2, 1, 3))


def merge_heads(heads):
    """(batch, heads, tokens, dim / heads) to (batch, tokens, dim)."""
    _, num_heads, count, head_dim = heads.shape
    return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, count, num_heads * head_dim))
