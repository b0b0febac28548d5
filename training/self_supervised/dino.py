"""DINO, self-distillation without labels (Caron et al., arXiv 2104.14294).

Reference code: facebookresearch/dino, Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vit.layers import GELU, TokenPooling
from keras_vit.layers.composite import SequentialComposite
from keras_vit.training.self_supervised.encoder import Encoder, InferenceModel

_LOSS = "loss"
_LAST = "prototypes"
_GLOBAL_VIEWS = 2


def self_distillation(
    encoder: keras.Model,
    views: Sequence[tuple[int, int, int]],
    *,
    prototypes: int = 65536,
    hidden: int = 2048,
    bottleneck: int = 256,
    train_gain: bool = False,
    student_temperature: float = 0.1,
    center_momentum: float = 0.9,
    name: str = "self_distillation",
) -> tuple[keras.Model, keras.Model]:
    """Build the model that DINO trains (Caron et al., arXiv 2104.14294, section 3.1 and algorithm 1).

    The student sees all views of an image, and the teacher only the first two, the global ones. The student learns to
    give the teacher's outputs for each other view. Views of the same size are processed in one pass. The teacher
    starts with the weights of the student; `DINOSchedule` updates it after each step.

    Args:
        encoder: The student: a model of the ViT family that returns all tokens, `include_top=False` and `pooling=None`.
            The first token is the feature, so it has a class token.
        views: The shape (height, width, channels) of each view. The first two have the encoder's size. Positions are
            resized for the other views; the authors' encoders have `position_resizing="cubic_offset"`.
        prototypes: The number of outputs of the head.
        hidden: The units of the two hidden layers of the head.
        bottleneck: The width of the vectors before the last layer of the head.
        train_gain: Whether the norm of the last layer's weights is trained.
        student_temperature: The temperature of the student's outputs.
        center_momentum: The momentum of the moving average that is subtracted from the teacher's outputs.
        name: The name of the model.

    Returns:
        The functional model of the views, whose output is the loss of each image (batch, 1); and the teacher's encoder,
        which returns all tokens.

    Raises:
        ValueError: If the encoder or the views are not of this form.
    """
    student = Encoder(encoder)
    own, sizes = student.input_shape, [tuple(view) for view in views]
    if len(sizes) < _GLOBAL_VIEWS or set(sizes[:_GLOBAL_VIEWS]) != {own} or len(set(sizes[_GLOBAL_VIEWS:])) > 1:
        raise ValueError(
            f"The first two views must have the size {own} of the encoder, and the other views a common size; received "
            f"{sizes}."
        )
    teacher = keras.models.clone_model(encoder)
    teacher.set_weights(encoder.get_weights())
    dtype = student.blocks[-1].dtype_policy
    settings = dict(prototypes=prototypes, hidden=hidden, bottleneck=bottleneck, train_gain=train_gain, dtype=dtype)
    head = ProjectionHead(**settings, name="student_head")
    teacher_head = ProjectionHead(**settings, name="teacher_head")
    feature = TokenPooling(dtype=dtype, name="feature")

    inputs = [keras.Input(size, name=f"view_{index}") for index, size in enumerate(sizes)]
    whole = Views(name="global_views")(inputs[:_GLOBAL_VIEWS])
    outputs = [head(feature(student(whole)))]
    if len(sizes) > _GLOBAL_VIEWS:
        outputs.append(head(feature(student(Views(name="local_views")(inputs[_GLOBAL_VIEWS:])))))
    tokens = InferenceModel(teacher.input, teacher.output, name="teacher")(whole)
    target = teacher_head(TokenPooling(dtype=dtype, name="teacher_feature")(tokens))
    teacher_head.set_weights(head.get_weights())
    teacher.trainable = teacher_head.trainable = False
    joined = outputs[0] if len(outputs) == 1 else Views(name="student_outputs")(outputs)
    loss = SelfDistillationLoss(len(sizes), student_temperature, center_momentum, dtype="float32", name=_LOSS)
    return keras.Model(inputs, loss(joined, target), name=name), teacher


@keras.saving.register_keras_serializable("keras_vit")
class Views(keras.layers.Layer):
    """Join batches along the first axis: those of each view one after the other.

    Inputs: a list of tensors (batch, ...) that differ in nothing else. Output: (batches, ...).
    """

    def call(self, views):
        return ops.concatenate(views, axis=0)

    def compute_output_shape(self, shapes):
        return (None, *shapes[0][1:])

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class ProjectionHead(SequentialComposite):
    """Compute DINO's outputs from features: an MLP, the unit vector, and a weight-normalized dense layer (appendix C).

    Args:
        prototypes: The number of outputs.
        hidden: The units of the two hidden layers.
        bottleneck: The width of the vectors that are scaled to length 1.
        train_gain: Whether the norm of the last layer's weights is trained, or fixed at 1.

    Input: (batch, width). Output: (batch, prototypes).
    """

    def __init__(self, prototypes: int, hidden: int = 2048, bottleneck: int = 256, train_gain: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "prototypes": prototypes,
            "hidden": hidden,
            "bottleneck": bottleneck,
            "train_gain": train_gain,
        }
        dtype = self.dtype_policy

        def dense(units, name):
            initializer = keras.initializers.TruncatedNormal(stddev=0.02)
            return keras.layers.Dense(units, kernel_initializer=initializer, dtype=dtype, name=name)

        parts = [
            dense(hidden, "hidden1"),
            GELU(dtype=dtype, name="activation1"),
            dense(hidden, "hidden2"),
            GELU(dtype=dtype, name="activation2"),
            dense(bottleneck, "bottleneck"),
            keras.layers.UnitNormalization(dtype="float32", name="unit"),
            WeightNormalizedDense(prototypes, train_gain, dtype="float32", name=_LAST),
        ]
        self.set_sequence({part.name: part for part in parts})

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class WeightNormalizedDense(keras.layers.Layer):
    """Compute a dense layer without bias, whose weights of each output are a unit vector times a gain.

    See Salimans and Kingma, "Weight Normalization", arXiv 1602.07868, equation 2.

    Args:
        units: The number of outputs.
        train_gain: Whether the gains are trained, or fixed at 1.

    Input: (..., width). Output: (..., units).
    """

    def __init__(self, units: int, train_gain: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.train_gain = train_gain

    def build(self, input_shape):
        width = input_shape[-1]
        limit = width**-0.5
        self.kernel = self.add_weight(
            name="kernel", shape=(width, self.units), initializer=keras.initializers.RandomUniform(-limit, limit)
        )
        self.gain = self.add_weight(name="gain", shape=(self.units,), initializer="ones", trainable=self.train_gain)
        # Whether the layer learns nothing at the moment, see `DINOSchedule`.
        self.frozen = self.add_weight(name="frozen", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        kernel, gain = (
            ops.where(self.frozen > 0, ops.stop_gradient(weight), weight)
            for weight in (ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.gain))
        )
        unit = kernel / ops.sqrt(ops.sum(ops.square(kernel), axis=0, keepdims=True))
        return ops.matmul(inputs, ops.cast(unit * gain, inputs.dtype))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "train_gain": self.train_gain}


@keras.saving.register_keras_serializable("keras_vit")
class SelfDistillationLoss(keras.layers.Layer):
    """Compute the cross-entropy between the teacher's and the student's outputs for different views of an image.

    The teacher's outputs are centered and sharpened: a moving average of their mean over the global batch is subtracted
    before they are divided by the teacher's temperature (section 3.1, equation 4).

    Args:
        views: The number of views that the student sees.
        student_temperature: The temperature of the student's outputs.
        center_momentum: The momentum of the moving average.

    Inputs: the student's outputs (views * batch, outputs), and the teacher's for the first two views (2 * batch,
    outputs), both view by view. Output: (batch, 1), the mean over the pairs of different views.
    """

    def __init__(self, views: int, student_temperature: float = 0.1, center_momentum: float = 0.9, **kwargs):
        super().__init__(**kwargs)
        self.views = views
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum

    def build(self, student_shape, teacher_shape):
        # Each replica has as many images, so the mean over the replicas is that of the global batch.
        self.center = self.add_weight(
            name="center", shape=(student_shape[-1],), initializer="zeros", trainable=False, aggregation="mean"
        )
        self.teacher_temperature = self.add_weight(
            name="teacher_temperature", shape=(), initializer=keras.initializers.Constant(0.04), trainable=False
        )

    def call(self, student, teacher, training=False):
        teacher = ops.stop_gradient(teacher)
        outputs = student.shape[-1]
        targets = ops.softmax((teacher - self.center) / self.teacher_temperature, axis=-1)
        targets = ops.reshape(targets, (_GLOBAL_VIEWS, -1, outputs))
        scores = ops.log_softmax(student / self.student_temperature, axis=-1)
        scores = ops.reshape(scores, (self.views, -1, outputs))
        # The sum over all views but the target's own.
        others = ops.sum(scores, axis=0) - scores[:_GLOBAL_VIEWS]
        losses = -ops.sum(targets * others, axis=(0, 2)) / (_GLOBAL_VIEWS * (self.views - 1))
        if training:
            mean = ops.mean(teacher, axis=0)
            self.center.assign(self.center * self.center_momentum + mean * (1.0 - self.center_momentum))
        return ops.expand_dims(losses, 1)

    def compute_output_shape(self, student_shape, teacher_shape):
        return (None, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "views": self.views,
            "student_temperature": self.student_temperature,
            "center_momentum": self.center_momentum,
        }


class DINOSchedule(keras.callbacks.Callback):
    """Update DINO's teacher after each step, and set what changes from epoch to epoch.

    Everything depends only on the step or the epoch, so training can be resumed.

    - The teacher's weights become m * teacher + (1 - m) * student, where m goes from `teacher_momentum` to 1 in a half
      cosine over all steps.
    - The teacher's temperature rises linearly in the first epochs.
    - The last layer of the student's head learns nothing in the first epochs.

    Args:
        teacher_temperature: The teacher's temperature in the first epoch.
        final_teacher_temperature: The one from epoch `temperature_epochs` on.
        temperature_epochs: The number of epochs of the rise.
        teacher_momentum: The momentum of the teacher at the first step.
        frozen_epochs: The number of first epochs in which the last layer does not learn.
    """

    def __init__(
        self,
        teacher_temperature: float = 0.04,
        final_teacher_temperature: float = 0.07,
        temperature_epochs: int = 30,
        teacher_momentum: float = 0.996,
        frozen_epochs: int = 1,
    ):
        super().__init__()
        self._rise = np.linspace(teacher_temperature, final_teacher_temperature, max(1, temperature_epochs))
        self._final, self._momentum, self._frozen = final_teacher_temperature, teacher_momentum, frozen_epochs
        self._epoch = 0

    def temperature(self, epoch: int) -> float:
        """Return the teacher's temperature in an epoch, counted from 0."""
        return float(self._rise[epoch]) if epoch < len(self._rise) else self._final

    def momentum(self, step: int, steps: int) -> float:
        """Return the momentum of the teacher's weights after a step, counted from 0, of all steps."""
        return 1.0 - (1.0 - self._momentum) * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    def on_train_begin(self, logs=None):
        teachers, students = teacher_and_student(self.model)
        with self.model.distribute_strategy.scope():
            momentum = tf.Variable(0.0, dtype=tf.float64, trainable=False)

        @tf.function
        def update():
            for teacher, student in zip(teachers, students, strict=True):
                kept = tf.cast(momentum, teacher.dtype)
                teacher.assign(teacher.value * kept + tf.cast(student.value, teacher.dtype) * (1 - kept))

        self._set_momentum, self._update = momentum.assign, update

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self.model.get_layer(_LOSS).teacher_temperature.assign(self.temperature(epoch))
        last = getattr(self.model.get_layer("student_head"), _LAST)
        last.frozen.assign(float(epoch < self._frozen))

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params["steps"]
        with self.model.distribute_strategy.scope():
            self._set_momentum(self.momentum(self._epoch * steps + batch, self.params["epochs"] * steps))
            self._update()


def teacher_and_student(model: keras.Model) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Return the teacher's variables that follow the student, and those of the student, of a `self_distillation`."""
    teacher = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    students = [
        variable for layer in teacher.layers if layer.weights for variable in model.get_layer(layer.name).weights
    ]
    heads = [
        [variable for variable in model.get_layer(name).weights if variable.name != "frozen"]
        for name in ("teacher_head", "student_head")
    ]
    return [*teacher.weights, *heads[0]], [*students, *heads[1]]
