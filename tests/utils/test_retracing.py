import logging
import threading

from keras_vit.utils.retracing import no_retracing_warnings

RETRACING = "5 out of the last 5 calls to <function f> triggered tf.function retracing. Tracing is expensive"


def test_only_retracing_in_this_thread_is_left_out(caplog):
    logger = logging.getLogger("tensorflow")
    before = list(logger.filters)
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger="tensorflow"), no_retracing_warnings():
            logger.warning(RETRACING)
            logger.warning("another warning")
            thread = threading.Thread(target=logger.warning, args=("in a thread: " + RETRACING,))
            thread.start()
            thread.join()
    finally:
        logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"another warning", "in a thread: " + RETRACING}
    assert logger.filters == before
