"""MirroredStrategy and MultiWorkerMirroredStrategy that work with Keras' `fit`, `evaluate` and `predict`."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

_MOVING_STATISTICS = ("moving_mean", "moving_variance")  # The names of BatchNormalization's variables.


class _ReducesForKeras:
    """A mixin for strategies. Its `reduce` also supports calls by Keras for which TensorFlow raises an error.

    These calls are in keras/src/backend/tensorflow/trainer.py of Keras 3.15:

    - `TensorFlowTrainer._maybe_symbolic_build` requests the mean of the replicas' first batches, but only needs its
      shape and dtype. If the replicas' parts of the batch have different sizes, there is no mean, so each replica gets
      its own part.
    - With several workers, it requests the mean of (images, labels) in a single call. Here, each part of a structure is
      reduced separately, and integers too small for TensorFlow's collective operations are reduced as int32.
    - With several workers, `reduce_per_replica` requests the mean of the loss and of each metric along axis 0, which
      scalars don't have. Here, this returns their mean over the replicas.

    All calls that TensorFlow supports return the same result as in TensorFlow. The tests also train with TensorFlow's
    own strategies, and fail once that works, because this class is then no longer needed.
    """

    def reduce(self, reduce_op, value, axis):
        if not isinstance(value, tf.distribute.DistributedValues) and keras.tree.is_nested(value):
            return keras.tree.map_structure(lambda part: self.reduce(reduce_op, part, axis), value)
        local = tf.convert_to_tensor(self.experimental_local_results(value)[0])
        if axis == 0 and local.shape.rank == 0:
            axis = None
        if axis is None and local.shape.rank and tf.executing_eagerly() and not self._of_one_size(value):
            return local
        if axis is None and local.dtype in (tf.bool, tf.uint8, tf.int8, tf.uint16, tf.int16):
            wide = self._run_traced(lambda part: tf.cast(part, tf.int32), value)
            return tf.cast(super().reduce(reduce_op, wide, axis), local.dtype)
        return super().reduce(reduce_op, value, axis)

    def _of_one_size(self, value):
        def size_and_square(part):
            size = tf.shape(part)[0]
            return tf.stack([size, size * size])

        total, squares = super().reduce("SUM", self._run_traced(size_and_square, value), axis=None).numpy()
        return total**2 == squares * self.num_replicas_in_sync

    def _run_traced(self, function, value):
        # TensorFlow logs a warning if `run` is called eagerly.
        return tf.function(lambda parts: self.run(function, (parts,)))(value)


class _AveragesMovingStatistics:
    """A mixin for strategies. In its scope, moving statistics of batch normalization are averaged over all replicas.

    Keras 3.15 creates these variables without an aggregation, so each replica and each worker has its own values. A
    saved file then contains those of the first replica, and workers evaluate the same weights with different
    statistics. Here, each update writes the mean of the replicas' updates to all replicas (ON_WRITE). Averaging when
    the variables are read (ON_READ) is not an option: the chief would wait for the other workers forever when it saves
    a model alone.
    """

    @contextlib.contextmanager
    def scope(self) -> Iterator[tf.distribute.Strategy]:
        scope = super().scope()  # type: ignore[misc]  # Defined by the strategy that this class is mixed into.
        with scope as strategy, tf.variable_creator_scope(_create_averaged):
            yield strategy


def _create_averaged(next_creator, **kwargs):
    unset = kwargs.get("aggregation") in (None, tf.VariableAggregation.NONE)
    if kwargs.get("name") in _MOVING_STATISTICS and not kwargs.get("trainable") and unset:
        kwargs["aggregation"] = tf.VariableAggregation.MEAN
    return next_creator(**kwargs)


class MirroredStrategy(_ReducesForKeras, _AveragesMovingStatistics, tf.distribute.MirroredStrategy):
    """TensorFlow's strategy for several devices of one machine, adapted to Keras."""


class MultiWorkerMirroredStrategy(
    _ReducesForKeras, _AveragesMovingStatistics, tf.distribute.MultiWorkerMirroredStrategy
):
    """TensorFlow's strategy for several processes, adapted to Keras."""
