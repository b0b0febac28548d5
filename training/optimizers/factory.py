"""Create the optimizers of the published recipes by name, with the factors of each variable."""

import re
from collections.abc import Sequence

import keras

from keras_vit.graph.classifier import classifiers
from keras_vit.graph.flattening import leaves
from keras_vit.layers import PatchEmbedding
from keras_vit.training.optimizers.adam import LAMB, AdamW
from keras_vit.training.optimizers.base import Optimizer
from keras_vit.training.optimizers.lars import LARS
from keras_vit.training.optimizers.soap import SOAP

# Embeddings have rank 2 or higher, so their rank does not distinguish them from kernels.
_EMBEDDINGS = re.compile("class_token|distillation_token|position_embedding|relative_position|attention_bias")


@keras.saving.register_keras_serializable("keras_vit")
class SGD(Optimizer, keras.optimizers.SGD):
    """Keras' SGD with momentum. The velocity includes the learning rate, as in Sutskever et al., 2013.

    Args:
        learning_rate: A number or a schedule.
        kwargs: The arguments of `keras.optimizers.SGD`, such as `momentum`, and of `Optimizer`.
    """


@keras.saving.register_keras_serializable("keras_vit")
class Lion(Optimizer, keras.optimizers.Lion):
    """Keras' Lion (Chen et al., arXiv 2302.06675, algorithm 2).

    Args:
        learning_rate: A number or a schedule.
        kwargs: The arguments of `keras.optimizers.Lion`, such as `beta_1`, and of `Optimizer`.
    """


@keras.saving.register_keras_serializable("keras_vit")
class Adafactor(Optimizer, keras.optimizers.Adafactor):
    """Keras' Adafactor (Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5).

    The size of a step is the learning rate, limited to 1 / sqrt(step), times the root mean square of the variable.
    Keras' implementation stores the full mean square as well as the factored one, so it does not save memory as in the
    paper.

    Args:
        learning_rate: A number or a schedule.
        kwargs: The arguments of `keras.optimizers.Adafactor`, and of `Optimizer`.
    """


_OPTIMIZERS = {
    "adafactor": Adafactor,
    "adamw": AdamW,
    "lamb": LAMB,
    "lars": LARS,
    "lion": Lion,
    "sgd": SGD,
    "soap": SOAP,
}


def optimizer(
    name: str,
    model: keras.Model,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
    clip_norm: float | None = None,
    clip_variable_norm: float | None = None,
    clip_value: float | None = None,
    adaptive_clip: float | None = None,
    accumulation_steps: int = 1,
    ema_decay: float | None = None,
    ema_warmup: bool = False,
    **settings,
) -> Optimizer:
    """Return an optimizer for a model, configured as in the published recipes.

    Weight decay is not applied to variables of rank 0 or 1 (biases, the scales of normalization layers and
    LayerScale), class tokens and position embeddings, as in the recipes of the authors of ViT and DeiT. It is decoupled
    from the gradient, except in "lars", where it is added to the gradient, as in the paper.

    All settings are saved with the model. Import `keras_vit.training` before you load it.

    Args:
        name: "adafactor", "adamw", "lamb", "lars", "lion", "sgd" or "soap". See the class of the same name.
        model: The built model to train.
        learning_rate: A number, or a schedule such as `Cosine`, which counts updates of the weights.
        weight_decay: The weight decay. Each update subtracts learning_rate * weight_decay * weight.
        layer_decay: The layer-wise learning rate decay. The learning rate of a variable is multiplied by
            layer_decay ** (distance from the head); see `layer_depths`. 1 means no decay.
        clip_norm: The largest global norm of the gradients. Larger gradients are scaled down to it.
        clip_variable_norm: The largest norm of the gradient of each variable, instead of `clip_norm`, as in DINO.
        clip_value: The largest absolute value of each element of the gradients.
        adaptive_clip: The largest ratio of the norm of a unit's gradient to the norm of the unit's weights. Larger
            gradients are scaled down to it (adaptive gradient clipping; Brock et al., arXiv 2102.06171, section 4.1).
            A unit is the part of a kernel that computes one output, or a whole bias, scale or embedding. The classifier
            is not clipped. The authors of EfficientViT from Microsoft Research use 0.02.
        accumulation_steps: The number of batches whose gradients are averaged for one update.
        ema_decay: The decay of a moving average of the weights, see `averaged_weights`. None keeps no average.
        ema_warmup: Whether to start with a decay of 0 and increase it to `ema_decay`.
        settings: Further arguments of the class, such as `beta_2`, `epsilon` or `momentum` (0.9 by default for "sgd").

    Raises:
        ValueError: If the name is unknown, the model has no variables yet, or a setting is out of range.
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"There is no optimizer {name!r}; choose one of {', '.join(map(repr, _OPTIMIZERS))}.")
    if not model.built:
        raise ValueError(f"{model.name} has no variables yet; build it by calling it on a batch of images.")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1; received {layer_decay}.")
    if name == "sgd":
        settings = {"momentum": 0.9, **settings}
    return _OPTIMIZERS[name](
        learning_rate,
        weight_decay=weight_decay,
        weight_decay_factors=weight_decay_factors(model.trainable_variables),
        learning_rate_factors=None if layer_decay == 1 else layer_decay_factors(model, layer_decay),
        global_clipnorm=clip_norm,
        clipnorm=clip_variable_norm,
        clipvalue=clip_value,
        adaptive_clip=adaptive_clip,
        clip_axes=None if adaptive_clip is None else unit_axes(model),
        accumulation_steps=accumulation_steps,
        ema_decay=ema_decay,
        ema_warmup=ema_warmup,
        **settings,
    )


def weight_decay_factors(variables: Sequence[keras.Variable]) -> list[float]:
    """Return the factor of the weight decay for each variable: 1 for kernels, 0 for all others."""
    return [0.0 if len(v.shape) <= 1 or _EMBEDDINGS.search(v.path) else 1.0 for v in variables]


def unit_axes(model: keras.Model) -> list[tuple[int, ...] | None]:
    """Return the axes over which to take the norm of a unit, for each trainable variable; None in the classifier.

    The units of a kernel are its outputs (Brock et al., arXiv 2102.06171, section 4.1): the norm is taken over all axes
    except the last one, or except the last two in a depthwise convolution. Every other variable is a single unit.
    """
    heads = classifiers(model)
    axes = {}
    for place, layer in leaves(model):
        outputs = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else 1
        for variable in layer.trainable_variables:
            rank = len(variable.shape)
            normed = tuple(range(rank - outputs if variable.name == "kernel" else rank))
            axes[id(variable)] = None if place in heads else normed
    return [axes[id(variable)] for variable in model.trainable_variables]


def layer_decay_factors(model: keras.Model, layer_decay: float) -> list[float]:
    """Return layer_decay ** (distance from the head) for each trainable variable, in the variables' order.

    With N blocks, the factor of block i, counted from 1, is layer_decay ** (N + 1 - i), as in ELECTRA and BEiT (arXiv
    2106.08254, appendix).
    """
    depths = layer_depths(model)
    return [layer_decay ** (max(depths) - depth) for depth in depths]


def layer_depths(model: keras.Model) -> list[int]:
    """Return the depth of each trainable variable: 0 in the embedding, i in block i, and N + 1 in the head.

    A block is a layer of the model that contains composite layers, other than the patch embedding. Layers between two
    blocks have the depth of the block before them. In a model without blocks, each layer with weights counts as a
    block.

    Args:
        model: A built model.

    Returns:
        The depths, in the order of `model.trainable_variables`.

    Raises:
        ValueError: If a variable does not belong to any layer of the model.
    """
    parts: dict[str, list] = {}
    for place, layer in leaves(model):
        if layer.trainable_variables:
            parts.setdefault(place.split(".")[0], []).append((place, layer))
    embeddings = {layer.name for layer in model.layers if isinstance(layer, PatchEmbedding)}
    blocks = [
        name
        for name, places in parts.items()
        if name not in embeddings and any(place.count(".") > 1 for place, _ in places)
    ]
    blocks = blocks or list(parts)
    depths, depth, seen = {}, 0, 0
    for name, places in parts.items():
        if name in blocks:
            seen += 1
            depth = seen
        elif seen == len(blocks):
            depth = seen + 1
        for _, layer in places:
            depths.update((id(variable), depth) for variable in layer.trainable_variables)
    lost = [variable.path for variable in model.trainable_variables if id(variable) not in depths]
    if lost:
        raise ValueError(f"{', '.join(lost)} of {model.name} belongs to none of its layers, so its depth is unknown.")
    return [depths[id(variable)] for variable in model.trainable_variables]
