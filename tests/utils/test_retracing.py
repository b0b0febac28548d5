import logging
import threading

import tensorflow as tf

from keras_vit.utils.retracing import no_retracing_warnings


def retrace():
    """Trace six functions that come from the same code."""
    for _ in range(6):
        tf.function(lambda x: x + 1)(1)


def retrace_others():
    """Do the same with other code: TensorFlow warns at most twice about the same."""
    for _ in range(6):
        tf.function(lambda x: x + 2)(1)


def retracing(caplog):
    return [record for record in caplog.records if "retracing" in record.getMessage()]


def test_only_retracing_in_this_thread_is_left_out(caplog):
    logger = logging.getLogger("tensorflow")
    before = list(logger.filters)
    logger.addHandler(caplog.handler)
    try:
        with no_retracing_warnings():
            retrace()
            assert not retracing(caplog)
            logger.warning("another warning")
            thread = threading.Thread(target=retrace_others)
            thread.start()
            thread.join()
        assert retracing(caplog)
    finally:
        logger.removeHandler(caplog.handler)
    assert "another warning" in caplog.messages
    assert logger.filters == before
