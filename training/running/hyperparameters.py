"""Describe a training: its length, its optimizer and schedule, and its loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_vit.training.lazy_modules import keras

if TYPE_CHECKING:
    from keras_vit.training.optimizers.base import Optimizer
    from keras_vit.training.optimizers.schedules import Schedule

_SCHEDULES = ("cosine", "linear", "inverse_square_root", "constant")
_LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The settings of a training besides the model and the data.

    Attributes:
        epochs: Length of the training. Give either `epochs` or `steps`.
        steps: Length of the training in batches.
        learning_rate: Highest learning rate, reached after the warm-up.
        learning_rate_batch: Images in an update that `learning_rate` is meant for; it is scaled in proportion to the
            images in an update of this training. By default it is not scaled.
        optimizer: Name of an optimizer, see `keras_vit.training.optimizer`.
        optimizer_settings: Further arguments of the optimizer, such as momentum.
        weight_decay: See `optimizer`, also for the settings down to `accumulation_steps`.
        layer_decay: 1 means no decay.
        clip_norm: None means no clipping.
        adaptive_clip: None means no clipping.
        ema_decay: Decay of a moving average of the weights, which is then validated and saved as the best model.
        ema_warmup: Start with a decay of 0.
        accumulation_steps: Batches in an update of the weights.
        sam: Radius of sharpness-aware minimization, see `use_sam`. None trains without it.
        sam_adaptive: Use ASAM.
        schedule: "cosine", "linear", "inverse_square_root" or "constant", after a linear warm-up.
        schedule_settings: Further arguments of the schedule, such as timescale. They count updates.
        warmup_epochs: Epochs in which the learning rate rises from `warmup_learning_rate`.
        warmup_steps: The same in batches, in place of `warmup_epochs`.
        warmup_learning_rate: Learning rate of the first step; it is never scaled.
        final_learning_rate: Learning rate at the end of "cosine" and "linear".
        cooldown_epochs: Epochs at the final rate after all others.
        loss: "softmax" is cross-entropy, "sigmoid" is `SigmoidCrossentropy`.
        loss_settings: Further arguments of the loss, such as threshold.
        label_smoothing: Fraction of each label that is distributed over all classes, in [0, 1). It applies to the
            validation loss too.
        distillation: "hard" or "soft" if `fit` gets a teacher; see `distill`, also for the two settings below.
        distillation_weight: Weight of the teacher's term.
        distillation_temperature: Temperature of soft distillation.
    """

    epochs: int | None = None
    steps: int | None = None
    learning_rate: float
    learning_rate_batch: int | None = None
    optimizer: str = "adamw"
    optimizer_settings: Mapping = field(default_factory=dict)
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float | None = 1.0
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
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"Give either epochs or steps; received epochs={self.epochs}, steps={self.steps}.")
        if (self.epochs if self.steps is None else self.steps) < 1:
            raise ValueError(
                f"Training takes at least 1 epoch or step; received epochs={self.epochs}, steps={self.steps}."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is at least 0 and below 1; received {self.label_smoothing}.")
        for name, known in (("schedule", _SCHEDULES), ("loss", _LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}; received {getattr(self, name)!r}.")

    def scheduled_steps(self, steps_per_epoch: int) -> int:
        """Return the batches of the training without the cool-down."""
        return (self.epochs or 0) * steps_per_epoch if self.steps is None else self.steps

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the batches of the whole training."""
        return self.scheduled_steps(steps_per_epoch) + self.cooldown_epochs * steps_per_epoch

    def peak_learning_rate(self, batch_size: int) -> float:
        """Return the highest learning rate for a batch size."""
        if self.learning_rate_batch is None:
            return self.learning_rate
        return self.learning_rate * batch_size * self.accumulation_steps / self.learning_rate_batch

    def make_schedule(self, batch_size: int, steps_per_epoch: int) -> Schedule:
        """Return the learning rate as a function of the number of updates.

        Raises:
            ValueError: The warm-up does not end before the training does, or the arguments are not the schedule's.
        """
        from keras_vit.training.optimizers.schedules import Cosine, InverseSquareRoot, Linear

        rate = self.peak_learning_rate(batch_size)
        updates = math.ceil(self.scheduled_steps(steps_per_epoch) / self.accumulation_steps)
        warmup = self.warmup_epochs * steps_per_epoch if self.warmup_steps is None else self.warmup_steps
        warmup = round(warmup / self.accumulation_steps)
        settings = {"warmup_learning_rate": self.warmup_learning_rate, **self.schedule_settings}
        if self.schedule == "inverse_square_root":
            return InverseSquareRoot(rate, updates, warmup, **settings)
        # A decay from a rate to the same rate is none.
        final = rate if self.schedule == "constant" else self.final_learning_rate
        decay = Cosine if self.schedule == "cosine" else Linear
        return decay(rate, updates, warmup, final_learning_rate=final, **settings)

    def make_optimizer(self, model: keras.Model, batch_size: int, steps_per_epoch: int) -> Optimizer:
        """Return the optimizer of a model for a batch size."""
        from keras_vit.training.optimizers.factory import optimizer

        return optimizer(
            self.optimizer,
            model,
            self.make_schedule(batch_size, steps_per_epoch),
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            clip_norm=self.clip_norm,
            adaptive_clip=self.adaptive_clip,
            accumulation_steps=self.accumulation_steps,
            ema_decay=self.ema_decay,
            ema_warmup=self.ema_warmup,
            **self.optimizer_settings,
        )

    def make_loss(self, from_logits: bool) -> keras.losses.Loss:
        """Return the loss for logits or probabilities."""
        from keras_vit.training.objectives.losses import SigmoidCrossentropy

        make = SigmoidCrossentropy if self.loss == "sigmoid" else keras.losses.CategoricalCrossentropy
        return make(from_logits=from_logits, label_smoothing=self.label_smoothing, **self.loss_settings)
