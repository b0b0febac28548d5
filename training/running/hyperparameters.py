"""Define the hyperparameters of a training run: its length, optimizer, schedule and loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_vit.training.lazy_modules import keras
from keras_vit.utils.plain import plain

if TYPE_CHECKING:
    from keras_vit.training.optimizers.base import Optimizer
    from keras_vit.training.optimizers.schedules import Schedule

_SCHEDULES = ("cosine", "linear", "inverse_square_root", "constant")
LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The hyperparameters of a training run.

    Attributes:
        epochs: The length of the training in epochs. Pass either `epochs` or `steps`.
        steps: The length of the training in batches.
        learning_rate: The highest learning rate, which is reached at the end of the warm-up.
        learning_rate_batch: The batch size that `learning_rate` is meant for. The learning rate is scaled linearly to
            the actual number of images per update. None means no scaling.
        optimizer: The name of the optimizer, see `keras_vit.training.optimizer`.
        optimizer_settings: Further arguments of the optimizer, such as `momentum`.
        weight_decay: The weight decay. `keras_vit.training.optimizer` describes this setting and the ones up to
            `accumulation_steps`.
        final_weight_decay: The weight decay at the end of the training, which a half cosine leads to. None keeps it
            constant.
        layer_decay: The factor by which the learning rate decreases from layer to layer. 1 means no decay.
        clip_norm: The largest global norm of the gradients. None means no clipping.
        clip_variable_norm: The largest norm of the gradient of each variable, instead of `clip_norm`.
        adaptive_clip: The largest ratio of gradient norm to weight norm. None means no clipping.
        ema_decay: The decay of a moving average of the weights. The average is used for validation and saved as the
            best model. None means no average.
        ema_warmup: Whether to start with a decay of 0 and increase it to `ema_decay`.
        accumulation_steps: The number of batches whose gradients are averaged for one update of the weights.
        sam: The radius of sharpness-aware minimization, see `use_sam`. None trains without it.
        sam_adaptive: Whether to use ASAM rather than SAM.
        schedule: "cosine", "linear", "inverse_square_root" or "constant". It follows a linear warm-up.
        schedule_settings: Further arguments of the schedule, such as `timescale`, in updates of the weights.
        warmup_epochs: The length of the warm-up in epochs.
        warmup_steps: The length of the warm-up in batches. It replaces `warmup_epochs`.
        warmup_learning_rate: The learning rate at the first step of the warm-up. It is not scaled by
            `learning_rate_batch`.
        final_learning_rate: The learning rate at the end of the "cosine" and "linear" schedules.
        cooldown_epochs: Additional epochs at the final learning rate after the end of the schedule.
        loss: "softmax" for categorical cross-entropy, or "sigmoid" for `SigmoidCrossentropy`.
        loss_settings: Further arguments of the loss, such as `threshold`.
        label_smoothing: The fraction of each label that is distributed over all classes, in [0, 1). It applies to the
            validation loss too.
        distillation: The kind of distillation if `fit` gets a teacher: "hard" or "soft", see `distill`.
        distillation_weight: The weight of the distillation loss.
        distillation_temperature: The temperature of soft distillation.

    Raises:
        ValueError: If neither or both of `epochs` and `steps` are given, or a value is out of range.
    """

    epochs: int | None = None
    steps: int | None = None
    learning_rate: float
    learning_rate_batch: int | None = None
    optimizer: str = "adamw"
    optimizer_settings: Mapping = field(default_factory=dict)
    weight_decay: float = 0.05
    final_weight_decay: float | None = None
    layer_decay: float = 1.0
    clip_norm: float | None = 1.0
    clip_variable_norm: float | None = None
    adaptive_clip: float | None = None
    ema_decay: float | None = None
    ema_warmup: bool = False
    accumulation_steps: int = 1
    sam: float | None = None
    sam_adaptive: bool = False
    schedule: str = "cosine"
    schedule_settings: Mapping = field(default_factory=dict)
    warmup_epochs: float = 0
    warmup_steps: int | None = None
    warmup_learning_rate: float = 0.0
    final_learning_rate: float = 0.0
    cooldown_epochs: int = 0
    loss: str = "softmax"
    loss_settings: Mapping = field(default_factory=dict)
    label_smoothing: float = 0.1
    distillation: str = "hard"
    distillation_weight: float = 0.5
    distillation_temperature: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"Pass either epochs or steps; received epochs={self.epochs}, steps={self.steps}.")
        if (self.epochs if self.steps is None else self.steps) < 1:
            raise ValueError(
                f"Training must take at least 1 epoch or step; received epochs={self.epochs}, steps={self.steps}."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1; received {self.label_smoothing}.")
        for name, known in (("schedule", _SCHEDULES), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; received {getattr(self, name)!r}.")

    def scheduled_steps(self, steps_per_epoch: int) -> int:
        """Return the number of batches of the training without the cool-down."""
        return (self.epochs or 0) * steps_per_epoch if self.steps is None else self.steps

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of batches of the whole training."""
        return self.scheduled_steps(steps_per_epoch) + self.cooldown_epochs * steps_per_epoch

    def peak_learning_rate(self, batch_size: int) -> float:
        """Return the highest learning rate for a batch size."""
        if self.learning_rate_batch is None:
            return self.learning_rate
        return self.learning_rate * batch_size * self.accumulation_steps / self.learning_rate_batch

    def make_schedule(self, batch_size: int, steps_per_epoch: int) -> Schedule:
        """Return the learning rate schedule, which counts updates of the weights.

        Raises:
            ValueError: If the warm-up is not shorter than the training, or a rate is negative.
            TypeError: If `schedule_settings` has arguments that the schedule does not take.
        """
        from keras_vit.training.optimizers.schedules import Cosine, InverseSquareRoot, Linear

        rate = self.peak_learning_rate(batch_size)
        updates = math.ceil(self.scheduled_steps(steps_per_epoch) / self.accumulation_steps)
        warmup = self.warmup_epochs * steps_per_epoch if self.warmup_steps is None else self.warmup_steps
        warmup = round(warmup / self.accumulation_steps)
        if warmup >= updates:
            fields = [f"warmup_epochs={self.warmup_epochs}", f"epochs={self.epochs}"]
            if self.warmup_steps is not None:
                fields[0] = f"warmup_steps={self.warmup_steps}"
            if self.steps is not None:
                fields[1] = f"steps={self.steps}"
            raise ValueError(
                f"The warm-up takes {warmup} of {updates} updates of the weights, and must be shorter than the "
                f"training; received {' and '.join(fields)}, with {steps_per_epoch} steps per epoch. Lower "
                f"{fields[0].partition('=')[0]} or raise {fields[1].partition('=')[0]}."
            )
        settings = {"warmup_learning_rate": self.warmup_learning_rate, **self.schedule_settings}
        if self.schedule == "inverse_square_root":
            return InverseSquareRoot(rate, updates, warmup, **settings)
        # A constant rate is a decay to the same rate.
        final = rate if self.schedule == "constant" else self.final_learning_rate
        decay = Cosine if self.schedule == "cosine" else Linear
        return decay(rate, updates, warmup, final_learning_rate=final, **settings)

    def make_optimizer(self, model: keras.Model, batch_size: int, steps_per_epoch: int) -> Optimizer:
        """Return the optimizer for a model and a batch size."""
        from keras_vit.training.optimizers.factory import optimizer

        rate = self.make_schedule(batch_size, steps_per_epoch)
        return optimizer(
            self.optimizer,
            model,
            # Callbacks such as ReduceLROnPlateau can change a number, but not a schedule.
            rate.learning_rate if self.schedule == "constant" and not rate.warmup_steps else rate,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            clip_norm=self.clip_norm,
            clip_variable_norm=self.clip_variable_norm,
            adaptive_clip=self.adaptive_clip,
            accumulation_steps=self.accumulation_steps,
            ema_decay=self.ema_decay,
            ema_warmup=self.ema_warmup,
            **self._weight_decay_schedule(steps_per_epoch),
            **self.optimizer_settings,
        )

    def _weight_decay_schedule(self, steps_per_epoch):
        if self.final_weight_decay is None:
            return {}
        updates = math.ceil(self.scheduled_steps(steps_per_epoch) / self.accumulation_steps)
        return {"final_weight_decay": self.final_weight_decay, "weight_decay_steps": updates}

    def make_loss(self, from_logits: bool) -> keras.losses.Loss:
        """Return the loss for logits or probabilities."""
        from keras_vit.training.objectives.losses import SigmoidCrossentropy

        make = SigmoidCrossentropy if self.loss == "sigmoid" else keras.losses.CategoricalCrossentropy
        return make(from_logits=from_logits, label_smoothing=self.label_smoothing, **self.loss_settings)
