"""Losses of the published recipes that Keras does not provide."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class SigmoidCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of each class, for one-hot, multi-hot or mixed targets of shape (batch, classes).

    Published settings:

    - DeiT III (arXiv 2204.07118): `SigmoidCrossentropy(threshold=0.0)`. Both classes of a mixed image have the target
      1, and the loss is averaged over the classes.
    - EfficientViT (arXiv 2205.14756): `SigmoidCrossentropy(label_smoothing=0.1)`.
    - ImageNet-21k and JFT (arXiv 2010.11929, 2106.10270): `SigmoidCrossentropy(sum_over_classes=True)`, with the
      initial bias of the classifier close to the negative logarithm of the number of classes.

    Args:
        from_logits: Whether the scores are logits rather than the outputs of a sigmoid.
        threshold: Targets above the threshold become 1, and the others 0. This precedes label smoothing. None keeps the
            targets.
        label_smoothing: The fraction of each image's targets that is distributed over all classes, in [0, 1).
        sum_over_classes: Whether to sum over the classes rather than average.
        reduction: The reduction over the images, as in Keras.
        name: The name of the loss.
        dtype: The dtype of the loss, as in Keras.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """

    def __init__(
        self,
        from_logits: bool = True,
        threshold: float | None = None,
        label_smoothing: float = 0.0,
        sum_over_classes: bool = False,
        reduction: str = "sum_over_batch_size",
        name: str = "sigmoid_crossentropy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1; received {label_smoothing}.")
        self.from_logits = from_logits
        self.threshold = threshold
        self.label_smoothing = label_smoothing
        self.sum_over_classes = sum_over_classes

    def call(self, y_true, y_pred):
        if self.threshold is not None:
            y_true = ops.cast(y_true > self.threshold, y_pred.dtype)
        if self.label_smoothing:
            y_true = y_true * (1.0 - self.label_smoothing) + self.label_smoothing / y_true.shape[-1]
        losses = ops.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        return ops.sum(losses, axis=-1) if self.sum_over_classes else ops.mean(losses, axis=-1)

    def get_config(self):
        return {
            "from_logits": self.from_logits,
            "threshold": self.threshold,
            "label_smoothing": self.label_smoothing,
            "sum_over_classes": self.sum_over_classes,
            "reduction": self.reduction,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_vit")
class DistillationLoss(keras.losses.Loss):
    """Distillation loss between the logits of a student and of a teacher (Touvron et al., arXiv 2012.12877).

    The targets are the teacher's logits. Both have the shape (batch, classes). The loss is, as in equations 2 and 3 of
    the paper:

    - "hard": the cross-entropy between the student's scores and the teacher's most likely class.
    - "soft": temperature ** 2 * KL(softmax(teacher / temperature), softmax(student / temperature)). The code of DeiT
      also divides it by the number of classes.

    Args:
        kind: "hard" or "soft".
        temperature: The temperature of "soft".
        reduction: The reduction over the images, as in Keras.
        name: The name of the loss.
        dtype: The dtype of the loss, as in Keras.

    Raises:
        ValueError: If `kind` is unknown, or `temperature` is not above 0.
    """

    def __init__(
        self,
        kind: str = "hard",
        temperature: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "distillation_loss",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if kind not in ("hard", "soft"):
            raise ValueError(f"kind must be 'hard' or 'soft'; received {kind!r}.")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; received {temperature}.")
        self.kind = kind
        self.temperature = temperature

    def call(self, y_true, y_pred):
        if self.kind == "hard":
            return ops.sparse_categorical_crossentropy(ops.argmax(y_true, axis=-1), y_pred, from_logits=True)
        teacher = ops.log_softmax(y_true / self.temperature)
        student = ops.log_softmax(y_pred / self.temperature)
        return self.temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    def get_config(self):
        return {
            "kind": self.kind,
            "temperature": self.temperature,
            "reduction": self.reduction,
            "name": self.name,
        }
