"""What every test starts from: a seed, and Keras without leftovers of other tests."""

import gc

import keras
import pytest
import tensorflow  # noqa: F401


def pytest_sessionstart():
    """Exempt what the imports made from garbage collection, which `clear_session` runs after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()
