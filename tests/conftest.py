"""Fixtures for every test: a seed, and a Keras session without state from other tests."""

import gc

import keras
import pytest
import tensorflow  # noqa: F401


def pytest_sessionstart():
    """Exempt the objects from imports from garbage collection, which `clear_session` runs after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()
    gc.freeze()  # What outlived the test, such as fixtures of a module, need not be searched after each of the others.
