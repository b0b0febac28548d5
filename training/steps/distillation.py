"""Distillation: a student learns from the labels and from a teacher's scores for the same augmented images."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_vit.models.model_images import image_conversion
from keras_vit.training.objectives.losses import DistillationLoss
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.training.steps.step import Override, StepOptions, change_step


def distill(
    model: keras.Model,
    teacher: keras.Model,
    *,
    kind: str = "hard",
    weight: float = 0.5,
    temperature: float = 1.0,
    from_logits: bool | None = None,
    teacher_from_logits: bool | None = None,
) -> None:
    """Train a model by distillation in `model.fit`, as in DeiT (Touvron et al., arXiv 2012.12877).

    The training loss is (1 - weight) * L(labels, class scores) + weight * D(teacher's scores, distillation scores). L
    is the loss that the model is compiled with, and D is `DistillationLoss`.

    The student has either two outputs, [class logits, distillation logits], such as a DeiT with a distillation token,
    or one output, to which both terms apply. Its prediction is the mean of the outputs, which the metrics and the
    validation loss use.

    Compile, fit and save the model as usual. The distillation is not saved: a loaded or cloned model trains without a
    teacher. `restore_step` turns it off. The teacher runs within the training step, on the same images, in inference
    mode and without gradients. Under a strategy, create the teacher within the same scope.

    Args:
        model: The student, a built model.
        teacher: A built Keras model with scores for the same classes. Images are resized to its input size (bilinear).
            If the student and the teacher are models of keras_vit that take images normalized in different ways, the
            teacher gets them in its own way. A teacher that keras_vit did not build gets the images of the student.
        kind: "hard" or "soft", see `DistillationLoss`.
        weight: The weight of the distillation loss, in [0, 1]. DeiT uses 0.5 for hard and 0.1 for soft distillation.
        temperature: The temperature of soft distillation. DeiT uses 3.
        from_logits: For a student with one output, whether its scores are logits rather than probabilities. By default,
            its last layer decides.
        teacher_from_logits: Whether the teacher's scores are logits rather than probabilities. By default, its last
            layer decides.

    Raises:
        ValueError: If a setting is out of range, the classes differ, or it is unclear whether scores are logits.
    """
    heads = [tuple(output.shape) for output in model.outputs]
    classes = tuple(teacher.output.shape)
    if len(heads) > 2 or set(heads) != {classes}:
        raise ValueError(
            f"The student must have one or two outputs of the teacher's shape {classes}; the outputs of {model.name} "
            f"have {', '.join(map(str, heads))}."
        )
    if len(heads) == 2 and from_logits is False:
        raise ValueError("A student with two outputs must return logits, because its prediction is their mean.")
    if from_logits is None:
        from_logits = len(heads) == 2 or gives_logits(model)
    if teacher_from_logits is None:
        teacher_from_logits = gives_logits(teacher)
    distillation = Distillation(
        teacher,
        DistillationLoss(kind, temperature),
        weight,
        from_logits,
        teacher_from_logits,
        image_conversion(model, teacher),
    )
    change_step(model, distillation=distillation)


@dataclass(frozen=True, eq=False)
class Distillation:
    """The option of a training step that `distill` sets.

    Attributes:
        teacher: The teacher.
        loss: The distillation loss.
        weight: The weight of the distillation loss.
        from_logits: Whether the student's scores are logits.
        teacher_from_logits: Whether the teacher's scores are logits.
        conversion: The factors and terms that turn the student's images into the teacher's; None if they are the same.
    """

    teacher: keras.Model
    loss: DistillationLoss
    weight: float
    from_logits: bool
    teacher_from_logits: bool
    conversion: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self):
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be in [0, 1]; received {self.weight}.")

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        label_loss, label_metrics = type(model).compute_loss, type(model).compute_metrics

        def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
            if not training:
                return label_loss(model, x, y, _prediction(y_pred), sample_weight, training)
            outputs = keras.tree.flatten(y_pred)
            of_labels = label_loss(model, x, y, outputs[0], sample_weight, training)
            return (1.0 - self.weight) * of_labels + self.weight * self._of_teacher(x, outputs[-1], sample_weight)

        def compute_metrics(x, y, y_pred, sample_weight=None):
            results = label_metrics(model, x, y, _prediction(y_pred), sample_weight)
            # Keras 3.12 prefixes the names with that of the first output if there are several.
            return {name.removeprefix(f"{model.output_names[0]}_"): value for name, value in results.items()}

        yield Override(model, "compute_loss", compute_loss)
        yield Override(model, "compute_metrics", compute_metrics)

    def _of_teacher(self, images, scores, sample_weight):
        """Return the distillation loss for the student's scores."""
        if self.conversion is not None:
            factor, term = (ops.convert_to_tensor(values, images.dtype) for values in self.conversion)
            images = images * factor + term
        teacher_scores = self.teacher(_resized(images, self.teacher.input_shape), training=False)
        targets = _as_logits(ops.stop_gradient(teacher_scores), self.teacher_from_logits)
        return self.loss(targets, _as_logits(scores, self.from_logits), sample_weight)


def _prediction(y_pred):
    outputs = keras.tree.flatten(y_pred)
    return sum(outputs[1:], outputs[0]) / len(outputs)


def _resized(images, shape):
    size = shape[1:3]
    if None in size or tuple(images.shape[1:3]) == tuple(size):
        return images
    smaller = images.shape[1] is None or size[0] < images.shape[1]
    return ops.image.resize(images, size, interpolation="bilinear", antialias=smaller, data_format="channels_last")


def _as_logits(scores, are_logits):
    # The logarithms of softmax probabilities differ from the logits by a constant, which does not affect a softmax.
    scores = ops.cast(scores, "float32")
    return scores if are_logits else ops.log(ops.maximum(scores, 1e-37))
