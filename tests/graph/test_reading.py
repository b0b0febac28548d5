"""Recognizing layers and operations of a functional model."""

import keras
import pytest
from keras import ops

from keras_vit.graph import reading

MAPS = keras.KerasTensor((None, 4, 6))


@pytest.mark.parametrize(
    ("record", "classes"),
    [
        (lambda: ops.reshape(MAPS, (-1, 24)), reading.RESHAPES),
        (lambda: ops.squeeze(MAPS[:, :1], 1), reading.RESHAPES),
        (lambda: ops.expand_dims(MAPS, 1), reading.RESHAPES),
        (lambda: ops.transpose(MAPS, (0, 2, 1)), reading.PERMUTATIONS),
        (lambda: ops.swapaxes(MAPS, 1, 2), reading.PERMUTATIONS),
        (lambda: MAPS[:, 1:], reading.SLICES),
    ],
)
def test_what_keras_records_is_recognized(record, classes):
    assert isinstance(reading.producer(record()), classes)
    others = {reading.RESHAPES, reading.PERMUTATIONS, reading.SLICES} - {classes}
    assert not any(isinstance(reading.producer(record()), other) for other in others)
