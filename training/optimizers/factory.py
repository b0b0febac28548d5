"""The optimizers of the published recipes by name, and which variables their decay rates are for."""

import re
from collections.abc import Sequence

import keras

from keras_vit.graph.classifier import classifiers
from keras_vit.graph.flattening import leaves
from keras_vit.training.optimizers.adam import LAMB, AdamW
from keras_vit.training.optimizers.base import Optimizer
from keras_vit.training.optimizers.lars import LARS
from keras_vit.training.optimizers.soap import SOAP

# Tables of embeddings are of rank 2 and more, so their rank doesn't tell them from kernels.
_EMBEDDINGS = re.compile("class_token|distillation_token|position_embedding|relative_position|attention_bias")


@keras.saving.register_keras_serializable("keras_vit")
class SGD(Optimizer, keras.optimizers.SGD):
    """Keras' SGD with momentum; the learning rate is a part of the velocity, as in Sutskever et al., 2013."""


@keras.saving.register_keras_serializable("keras_vit")
class Lion(Optimizer, keras.optimizers.Lion):
    """Keras' Lion (Chen et al., arXiv 2302.06675, algorithm 2)."""


@keras.saving.register_keras_serializable("keras_vit")
class Adafactor(Optimizer, keras.optimizers.Adafactor):
    """Keras' Adafactor (Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5).

    Its step is the learning rate, but at most 1 / sqrt(step), times the root mean square of the variable. It keeps
    the whole mean square besides the factored one, so it does not save the memory that the paper is about.
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
    clip_value: float | None = None,
    adaptive_clip: float | None = None,
    accumulation_steps: int = 1,
    ema_decay: float | None = None,
    ema_warmup: bool = False,
    **settings,
) -> Optimizer:
    """Return an optimizer for one model, set up as in the published recipes.

    Variables of rank 0 or 1 (biases, the factors of normalization and LayerScale), class tokens and position embeddings
    don't decay, as in the recipes of ViT's and DeiT's authors. The decay is decoupled from the gradient, except in
    "lars", whose paper adds it to the gradient.

    All settings are saved with the model; `import keras_vit.training` before loading it.

    Args:
        name: "adafactor", "adamw", "lamb", "lars", "lion", "sgd" or "soap"; see the class of that name.
        model: The built model that will be trained.
        learning_rate: A number, or a schedule such as `Cosine`, which counts updates of the weights.
        weight_decay: Fraction of a weight that an update subtracts, times the learning rate.
        layer_decay: The learning rate is multiplied by layer_decay ** distance from the head; see `layer_depths`.
        clip_norm: Largest norm of the gradients over all variables; larger gradients are scaled down to it.
        clip_value: Largest absolute value of each element of the gradients.
        adaptive_clip: Largest ratio of the norm of a unit's gradient to that of the unit itself; larger gradients are
            scaled down to it (Brock et al., arXiv 2102.06171, section 4.1). A unit is one output's part of a kernel, or
            a whole bias, factor or table of embeddings. The classifier is not clipped. The EfficientViT of Microsoft
            Research is trained with 0.02.
        accumulation_steps: Batches whose gradients are averaged for one update.
        ema_decay: Decay of a moving average of the weights, see `averaged_weights`. By default there is none.
        ema_warmup: Start with a decay of 0 and increase it to `ema_decay`.
        settings: Further arguments of the class, such as beta_2, epsilon or momentum (0.9 by default in "sgd").

    Raises:
        ValueError: The name is unknown, the model has no variables yet, or a setting is out of range.
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"There is no optimizer {name!r}; there are {', '.join(map(repr, _OPTIMIZERS))}.")
    if not model.built:
        raise ValueError(f"{model.name} has no variables yet; build it, by calling it on a batch of images.")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is above 0 and at most 1; received {layer_decay}.")
    if name == "sgd":
        settings = {"momentum": 0.9, **settings}
    return _OPTIMIZERS[name](
        learning_rate,
        weight_decay=weight_decay,
        weight_decay_factors=weight_decay_factors(model.trainable_variables),
        learning_rate_factors=None if layer_decay == 1 else layer_decay_factors(model, layer_decay),
        global_clipnorm=clip_norm,
        clipvalue=clip_value,
        adaptive_clip=adaptive_clip,
        clip_axes=None if adaptive_clip is None else unit_axes(model),
        accumulation_steps=accumulation_steps,
        ema_decay=ema_decay,
        ema_warmup=ema_warmup,
        **settings,
    )


def weight_decay_factors(variables: Sequence[keras.Variable]) -> list[float]:
    """Return 1 for each variable that decays, and 0 for the others."""
    return [0.0 if len(v.shape) <= 1 or _EMBEDDINGS.search(v.path) else 1.0 for v in variables]


def unit_axes(model: keras.Model) -> list[tuple[int, ...] | None]:
    """Return the axes over which a unit's norm is taken for each trainable variable; None in the classifier.

    The units of a kernel are its outputs (Brock et al., arXiv 2102.06171, section 4.1): the norm is taken over all axes
    except the last one, or the last two in a depthwise convolution. Every other variable is a single unit.
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
    """Return layer_decay ** (distance from the head) for each trainable variable, in their order.

    With N blocks that is layer_decay ** (N + 1 - i) for block i, counted from 1 (BEiT, arXiv 2106.08254,
    appendix; ELECTRA before it).
    """
    depths = layer_depths(model)
    return [layer_decay ** (max(depths) - depth) for depth in depths]


def layer_depths(model: keras.Model) -> list[int]:
    """Return the depth of each trainable variable: 0 in the embedding, i in block i, N + 1 in the head.

    The list is in the order of the trainable variables. A block is a layer of the model that has composite layers as
    parts. Layers between two blocks have the depth of the first one. In a model without blocks, each layer with weights
    counts as one.

    Raises:
        ValueError: A variable is in none of the model's layers.
    """
    parts: dict[str, list] = {}
    for place, layer in leaves(model):
        if layer.trainable_variables:
            parts.setdefault(place.split(".")[0], []).append((place, layer))
    blocks = [name for name, places in parts.items() if any(place.count(".") > 1 for place, _ in places)]
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
        raise ValueError(f"{', '.join(lost)} of {model.name} is in none of its layers, so its depth is unknown.")
    return [depths[id(variable)] for variable in model.trainable_variables]
