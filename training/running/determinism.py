"""Enable TensorFlow's deterministic operations temporarily."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

# TensorFlow only exports `enable_op_determinism`, not the function that disables it.
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled


@contextlib.contextmanager
def deterministic_operations(wanted: bool = True) -> Iterator[None]:
    """Restrict TensorFlow to deterministic operations within this context.

    The setting applies to the whole process, including other threads. The previous setting is restored at the end,
    even after an error.

    Args:
        wanted: If False, the context does nothing.
    """
    if not wanted or is_op_determinism_enabled():
        yield
        return
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable_op_determinism()
