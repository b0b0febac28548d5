"""Rearrangements do to arrays what NumPy's reshapes and transposes do, one after the other."""

import numpy as np
import pytest

from keras_vit.edge.onnx.layouts import layout_like
from keras_vit.edge.onnx.rearrangement import chain, compose, identity, inverse, nodes_of, reshape, transpose


def random_steps(random, shape=(1, 4, 6, 1, 5), count=5):
    """Return rearrangements that follow on each other."""
    steps = []
    for _ in range(count):
        if random.random() < 0.5:
            steps.append(transpose(shape, tuple(int(axis) for axis in random.permutation(len(shape)))))
        else:
            sizes = [part for size in shape for part in {4: (2, 2), 6: (2, 3), 24: (4, 6)}.get(size, (size,))]
            merged = [sizes[0]]
            for size in sizes[1:]:
                if random.random() < 0.3:
                    merged[-1] *= size
                else:
                    merged.append(size)
            steps.append(reshape(shape, tuple(merged)))
        shape = steps[-1].target
    return steps


def applied(steps, array):
    for step in steps:
        array = step(array)
    return array


@pytest.mark.parametrize("seed", range(20))
def test_a_chain_does_the_same_as_its_steps(seed):
    random = np.random.default_rng(seed)
    steps = random_steps(random)
    array = random.normal(size=steps[0].source)
    expected = array
    for step in steps:  # By NumPy alone.
        expected = expected.reshape(step.parts).transpose(step.order).reshape(step.target)
    assert np.array_equal(applied(chain(steps), array), expected)
    backwards = chain([*steps, *(inverse(step) for step in reversed(steps))])
    assert np.array_equal(applied(backwards, array), array)


@pytest.mark.parametrize("axes", [(0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3), (3, 2, 1, 0)])
def test_a_transpose_is_numpys(axes):
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert np.array_equal(transpose(array.shape, axes)(array), array.transpose(axes))


def test_what_cancels_disappears():
    there = transpose((2, 3, 4, 5), (0, 3, 1, 2))
    assert compose(there, inverse(there)).is_identity
    flat = reshape((2, 5, 3, 4), (2, 5, 12))
    assert chain([there, flat, inverse(flat), inverse(there)]) == [identity((2, 3, 4, 5))]


def test_moving_an_axis_of_size_1_is_a_reshape():
    assert transpose((2, 1, 1, 5), (0, 3, 1, 2)).is_reshape


def test_parts_that_do_not_fit_stay_separate():
    first = compose(reshape((6, 5), (2, 3, 5)), transpose((2, 3, 5), (2, 1, 0)))
    second = compose(reshape((5, 3, 2), (5, 2, 3)), transpose((5, 2, 3), (1, 0, 2)))
    assert compose(first, second) is None
    array = np.arange(30).reshape(6, 5)
    assert np.array_equal(applied(chain([first, second]), array), second(first(array)))


@pytest.mark.parametrize("seed", range(20))
def test_the_nodes_of_a_rearrangement_do_it(seed):
    random = np.random.default_rng(seed)
    for step in chain(random_steps(random)):
        before, axes, after = nodes_of(step)
        array = random.normal(size=step.source)
        moved = array.reshape(before).transpose(axes)
        assert moved.shape == after
        assert np.array_equal(moved.reshape(step.target), step(array))


def test_a_transpose_of_whole_axes_is_one_node():
    assert nodes_of(transpose((1, 7, 7, 8), (0, 3, 1, 2))) == ((1, 7, 7, 8), (0, 3, 1, 2), (1, 8, 7, 7))


class TestLayouts:
    def test_a_layout_stores_other_arrays_alike(self):
        channels_first = layout_like(transpose((2, 8, 6, 3), (0, 3, 1, 2)))
        array = np.arange(2 * 4 * 5 * 7).reshape(2, 4, 5, 7)
        assert np.array_equal(channels_first.of(array.shape)(array), array.transpose(0, 3, 1, 2))
        assert channels_first.place(3, array.shape) == 1
        assert channels_first.places((1, 2), array.shape) == [2, 3]

    def test_a_split_axis_keeps_its_size_or_is_broadcast(self):
        windows = reshape((1, 12, 3, 5), (4, 3, 3, 5))
        layout = layout_like(compose(windows, transpose(windows.target, (0, 3, 1, 2))))
        assert layout.of((1, 12, 3, 7)).target == (4, 7, 3, 3)
        assert layout.of((1, 1, 3, 7)).target == (1, 7, 1, 3)
        assert layout.of((1, 9, 3, 7)) is None and layout.of((2, 12, 3, 7)) is None
        assert layout.place(1, (1, 12, 3, 7)) is None

    def test_merged_axes_cannot_be_told_apart(self):
        layout = layout_like(reshape((2, 3, 5), (6, 5)))
        assert layout.place(1, (2, 3, 5)) is None and layout.place(2, (2, 3, 5)) == 1
        assert layout.place(1, (1, 3, 5)) == 0
