"""The optimizer of the published vision-transformer recipes."""

import re

import keras

# Position embeddings and tokens are tables of rank 3, so their rank doesn't tell them from kernels.
_EMBEDDINGS = re.compile("class_token|distillation_token|position_embedding")


def adamw(
    model: keras.Model,
    learning_rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    *,
    weight_decay: float = 0.05,
    clip_norm: float = 1.0,
) -> keras.optimizers.AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with linear warm-up and cosine decay to zero.

    Weight decay is left out for every variable of rank 0 or 1 (biases, the factors of normalization and
    LayerScale) and for class tokens and position embeddings, as in the recipes of ViT's and DeiT's authors.

    Args:
        model: The built model that will be trained; its variables say what weight decay leaves out.
        learning_rate: The highest one, reached at the end of the warm-up.
        total_steps: Steps of the whole training. After them the learning rate is 0.
        warmup_steps: Steps in which the learning rate grows from 0.
        weight_decay: Part of a weight that is taken away in a step, times the learning rate.
        clip_norm: Gradients are scaled down where their norm, over all variables, is higher.

    Raises:
        ValueError: The model has no variables yet, or the warm-up does not end before the training does.
    """
    if not model.built:
        raise ValueError(f"{model.name} has no variables yet; build it, by calling it on a batch of images.")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "The warm-up is at least 0 steps and shorter than the training; "
            f"received {warmup_steps} of {total_steps} steps."
        )
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay, global_clipnorm=clip_norm)
    optimizer.exclude_from_weight_decay(
        var_list=[
            variable
            for variable in model.trainable_variables
            if len(variable.shape) <= 1 or _EMBEDDINGS.search(variable.path)
        ]
    )
    return optimizer
