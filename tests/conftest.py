"""Fixtures for every test: a seed, and a Keras session without state from other tests."""

import gc

import keras
import pytest
import tensorflow  # noqa: F401


def pytest_sessionstart():
    """Exempt the objects from imports from garbage collection, which `clear_session` runs after every test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Put the longest tests first, so that parallel runs end at the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()
    gc.freeze()  # What outlived the test, such as fixtures of a module, need not be searched after each of the others.
