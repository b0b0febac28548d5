"""Leave out TensorFlow's warnings about retracing where they mean nothing."""

import contextlib
import logging
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def no_retracing_warnings() -> Iterator[None]:
    """Leave out the warnings about retracing that this thread would log in the block.

    TensorFlow counts how often functions that come from the same code are traced. Keras makes a new function for each
    call of a grouped convolution, so a model with five of them causes a warning, though nothing is traced twice.
    """
    thread = threading.get_ident()

    def is_kept(record: logging.LogRecord) -> bool:
        return record.thread != thread or "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(is_kept)
    try:
        yield
    finally:
        logger.removeFilter(is_kept)
