"""Switch TensorFlow's deterministic operations on for a while."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

# TensorFlow exports `enable_op_determinism` alone; its counterpart stands beside it.
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled


@contextlib.contextmanager
def deterministic_operations(wanted: bool = True) -> Iterator[None]:
    """Let TensorFlow run only operations that give the same result every time, while this is open.

    The switch is one of the whole process: other threads are affected meanwhile. Afterwards it is as it was before,
    whether it was on or off, and also after an error.

    Args:
        wanted: False changes nothing.
    """
    if not wanted or is_op_determinism_enabled():
        yield
        return
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable_op_determinism()
