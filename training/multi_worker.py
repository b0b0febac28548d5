"""MultiWorkerMirroredStrategy with which Keras' `fit`, `evaluate` and `predict` work."""

import keras
import tensorflow as tf


class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy whose `reduce` also takes what Keras gives it, where TensorFlow's raises an error.

    In Keras 3.15, keras/src/backend/tensorflow/trainer.py:

    - `TensorFlowTrainer._maybe_symbolic_build` reduces a whole batch, (images, labels), in one call. Here each part
      of a structure is reduced by itself, and integers too small for TensorFlow's collective operations as int32.
    - `reduce_per_replica` asks for the mean of the loss and of each metric along axis 0, which scalars don't have.
      Here it is their mean over the replicas.

    No call that TensorFlow answers is answered otherwise. The tests train with TensorFlow's own strategy as well and
    fail once that works: then this class is no longer needed.
    """

    def reduce(self, reduce_op, value, axis):
        if not isinstance(value, tf.distribute.DistributedValues) and keras.tree.is_nested(value):
            return keras.tree.map_structure(lambda part: self.reduce(reduce_op, part, axis), value)
        local = tf.convert_to_tensor(self.experimental_local_results(value)[0])
        if axis == 0 and local.shape.rank == 0:
            axis = None
        if axis is None and local.dtype in (tf.bool, tf.uint8, tf.int8, tf.uint16, tf.int16):
            wide = self.run(lambda part: tf.cast(part, tf.int32), (value,))
            return tf.cast(super().reduce(reduce_op, wide, axis), local.dtype)
        return super().reduce(reduce_op, value, axis)
