"""MirroredStrategy and MultiWorkerMirroredStrategy that work with Keras' `fit`, `evaluate` and `predict`."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

_MOVING_STATISTICS = ("moving_mean", "moving_variance")  # Names of BatchNormalization's variables.


class _ReducesForKeras:
    """A strategy whose `reduce` also accepts what Keras passes, where TensorFlow's raises an error.

    In Keras 3.15, keras/src/backend/tensorflow/trainer.py:

    - `TensorFlowTrainer._maybe_symbolic_build` requests the mean of the replicas' first batches, of which it needs
      shape and type alone. Replicas that can't share that batch equally have no such mean: each gets its own part.
    - With several workers, it requests this for (images, labels) in one call. Here each part of a structure is reduced
      by itself, and integers too small for TensorFlow's collective operations are reduced as int32.
    - With several workers, `reduce_per_replica` requests the mean of the loss and of each metric along axis 0, which
      scalars don't have. Here it is their mean over the replicas.

    Every call that TensorFlow answers gets the same answer. The tests train with TensorFlow's own strategies as well
    and fail once that works: then this class is no longer needed.
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
        # TensorFlow logs a warning where `run` is called eagerly.
        return tf.function(lambda parts: self.run(function, (parts,)))(value)


class _AveragesMovingStatistics:
    """A strategy in whose scope the moving statistics of batch normalization are the mean over all replicas.

    Keras 3.15 creates them without an aggregation, so each replica and each worker has its own: a file has those of the
    first one, and workers evaluate the same weights with different statistics. Here each update writes the mean of the
    replicas' updates to all of them (ON_WRITE). TensorFlow could take the mean when they are read (ON_READ) instead,
    but then the chief would wait forever for the others when it saves a model alone.
    """

    @contextlib.contextmanager
    def scope(self) -> Iterator[tf.distribute.Strategy]:
        scope = super().scope()  # type: ignore[misc]  # The strategy that this is mixed into has it.
        with scope as strategy, tf.variable_creator_scope(_create_averaged):
            yield strategy


def _create_averaged(next_creator, **kwargs):
    unset = kwargs.get("aggregation") in (None, tf.VariableAggregation.NONE)
    if kwargs.get("name") in _MOVING_STATISTICS and not kwargs.get("trainable") and unset:
        kwargs["aggregation"] = tf.VariableAggregation.MEAN
    return next_creator(**kwargs)


class MirroredStrategy(_ReducesForKeras, _AveragesMovingStatistics, tf.distribute.MirroredStrategy):
    """TensorFlow's strategy for the devices of one machine."""


class MultiWorkerMirroredStrategy(
    _ReducesForKeras, _AveragesMovingStatistics, tf.distribute.MultiWorkerMirroredStrategy
):
    """TensorFlow's strategy for several processes."""
