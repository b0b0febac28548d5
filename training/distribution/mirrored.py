"""MirroredStrategy and MultiWorkerMirroredStrategy with which Keras' `fit`, `evaluate` and `predict` work."""

import keras
import tensorflow as tf


class _ReducesForKeras:
    """A strategy whose `reduce` also takes what Keras gives it, where TensorFlow's raises an error.

    In Keras 3.15, keras/src/backend/tensorflow/trainer.py:

    - `TensorFlowTrainer._maybe_symbolic_build` asks for the mean of the replicas' first batches, of which it needs
      shape and type alone. Replicas that can't share that batch equally have no such mean: each takes its own part.
    - Of several workers, it asks so for (images, labels) in one call. Here each part of a structure is reduced by
      itself, and integers too small for TensorFlow's collective operations as int32.
    - Of several workers, `reduce_per_replica` asks for the mean of the loss and of each metric along axis 0, which
      scalars don't have. Here it is their mean over the replicas.

    No call that TensorFlow answers is answered otherwise. The tests train with TensorFlow's own strategies as well and
    fail once that works: then this class is no longer needed.
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
            wide = self.run(lambda part: tf.cast(part, tf.int32), (value,))
            return tf.cast(super().reduce(reduce_op, wide, axis), local.dtype)
        return super().reduce(reduce_op, value, axis)

    def _of_one_size(self, value):
        def size_and_square(part):
            size = tf.shape(part)[0]
            return tf.stack([size, size * size])

        total, squares = super().reduce("SUM", self.run(size_and_square, (value,)), axis=None).numpy()
        return total**2 == squares * self.num_replicas_in_sync


class MirroredStrategy(_ReducesForKeras, tf.distribute.MirroredStrategy):
    """TensorFlow's strategy for the devices of one machine."""


class MultiWorkerMirroredStrategy(_ReducesForKeras, tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several processes."""
