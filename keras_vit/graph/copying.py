"""Errors that say which layer of a model cannot be copied, and what would do."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def copying(name: str, kind: type) -> Iterator[None]:
    """Turn an error in the block, which copies a layer or operation by its configuration, into one sentence.

    Args:
        name: Name of the layer in its model.
        kind: Its class.

    Raises:
        ValueError: The block raised an exception.
    """
    try:
        yield
    except Exception as error:  # A user's own class can raise any.
        if issubclass(kind, keras.layers.Lambda):
            reason = (
                "since it holds Python code, which no configuration describes: compute with operators and functions of "
                "keras.ops on the tensors instead, such as `keras.ops.square(x) / 2`, or write a layer class"
            )
        else:
            cause = str(error).strip().split("\n")[0]
            reason = f"since `from_config` cannot make one from what `get_config` returns: {cause.removesuffix('.')}"
        raise ValueError(f"The layer {name!r}, a {kind.__name__}, cannot be copied, {reason}.") from error
