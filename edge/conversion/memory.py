"""Giving memory back to the system in the middle of an export."""

import contextlib
import ctypes
import gc


def release_memory() -> None:
    """Free what only reference cycles hold, such as Keras models, and give free memory back to the system.

    The C library keeps freed arrays of up to 32 MB for the next ones of their size, which do not come: the peak of an
    export is where TensorFlow's converter holds the weights in forms of its own.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # Only glibc has the function.
        ctypes.CDLL(None).malloc_trim(0)
