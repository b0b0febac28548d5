"""Distillation: a student learns from the labels and from what a teacher says of the same augmented images."""

import functools

import keras
from keras import ops

from keras_vit.training.objectives.losses import DistillationLoss
from keras_vit.training.objectives.scores import gives_logits


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
    """Makes `model.fit` train by distillation, as DeiT does (Touvron et al., arXiv 2012.12877).

    The training loss is (1 - weight) * L(y, class scores) + weight * D(teacher, distillation scores), with the loss L
    that the model is compiled with and D = `DistillationLoss`.

    The student has two outputs, [class logits, distillation logits], as a DeiT with a distillation token, or one, to
    which both terms apply. Metrics and the validation loss see its prediction, which is the mean of the outputs.

    The model stays what it was: compile, fit and save it as always; a loaded or cloned one trains without a teacher.
    The teacher runs within the step, on the images of the step, in inference mode and without gradients. Under a
    strategy, make it within the same scope.

    Args:
        model: The student, built.
        teacher: Any built Keras model that gives scores of the same classes. Images of another size are resized for
            it (bilinear). Their values are scaled as the student's are: put a layer in front of a teacher that wants
            another scale.
        kind: "hard" or "soft", see `DistillationLoss`.
        weight: Of the teacher's term, in [0, 1]. DeiT takes 0.5 for hard and 0.1 for soft distillation.
        temperature: Of soft distillation; DeiT takes 3.
        from_logits: Whether the scores of a student with one output are logits rather than probabilities; None finds
            out from its last layer.
        teacher_from_logits: The same of the teacher.

    Raises:
        ValueError: A setting is out of range, the classes differ, or the kind of scores is unclear.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is in [0, 1]; received {weight}.")
    heads = [tuple(output.shape) for output in model.outputs]
    classes = tuple(teacher.output.shape)
    if len(heads) > 2 or set(heads) != {classes}:
        raise ValueError(
            f"The student has one or two outputs, of the teacher's shape {classes}; the outputs of {model.name} "
            f"have {', '.join(map(str, heads))}."
        )
    if len(heads) == 2 and from_logits is False:
        raise ValueError("A student with two outputs gives logits, since their mean is taken.")
    if from_logits is None:
        from_logits = len(heads) == 2 or gives_logits(model)
    if teacher_from_logits is None:
        teacher_from_logits = gives_logits(teacher)
    distance = DistillationLoss(kind, temperature)
    label_loss = functools.partial(type(model).compute_loss, model)
    label_metrics = functools.partial(type(model).compute_metrics, model)

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not training:
            return label_loss(x, y, _prediction(y_pred), sample_weight, training)
        outputs = keras.tree.flatten(y_pred)
        scores = ops.stop_gradient(teacher(_resized(x, teacher.input_shape), training=False))
        told = distance(_logits(scores, teacher_from_logits), _logits(outputs[-1], from_logits), sample_weight)
        return (1.0 - weight) * label_loss(x, y, outputs[0], sample_weight, training) + weight * told

    def compute_metrics(x, y, y_pred, sample_weight=None):
        results = label_metrics(x, y, _prediction(y_pred), sample_weight)
        # Keras 3.12 calls them by the first of several outputs.
        return {name.removeprefix(f"{model.output_names[0]}_"): value for name, value in results.items()}

    model.compute_loss = compute_loss
    model.compute_metrics = compute_metrics
    # Steps that were compiled before are forgotten.
    model.train_function = model.test_function = None


def _prediction(y_pred):
    outputs = keras.tree.flatten(y_pred)
    return sum(outputs[1:], outputs[0]) / len(outputs)


def _resized(images, shape):
    size = shape[1:3]
    if None in size or tuple(images.shape[1:3]) == tuple(size):
        return images
    smaller = images.shape[1] is None or size[0] < images.shape[1]
    return ops.image.resize(images, size, interpolation="bilinear", antialias=smaller, data_format="channels_last")


def _logits(scores, are_logits):
    # The logarithm of softmax probabilities differs from the logits by a constant, which no softmax sees.
    scores = ops.cast(scores, "float32")
    return scores if are_logits else ops.log(ops.maximum(scores, 1e-37))
