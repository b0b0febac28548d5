"""Define a recipe: the model, the input pipeline, the hyperparameters, and the results that the authors report."""

import ast
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_vit.models.image_facts import Statistics
from keras_vit.models.registry import find_weights, variant
from keras_vit.training.augment import (
    Augmentation,
    AutoAugment,
    CenterCrop,
    ColorJitter,
    RandAugment,
    RandomAffine,
    RandomResizedCrop,
    SimpleRandomCrop,
    ThreeAugment,
)
from keras_vit.training.data import MultiScale, Pipeline
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import METHODS, Method
from keras_vit.utils.plain import plain

# The classes that can be used in a value given as text.
_KINDS = {
    kind.__name__: kind
    for kind in (
        Augmentation,
        AutoAugment,
        CenterCrop,
        ColorJitter,
        MultiScale,
        RandAugment,
        RandomAffine,
        RandomResizedCrop,
        SimpleRandomCrop,
        Statistics,
        ThreeAugment,
    )
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published recipe for training a model.

    Attributes:
        paper: The source, with the table or section.
        hardware: The hardware that the authors trained on.
        time: How long their training took.
        top1: Their top-1 accuracy on the validation images of ImageNet-1k in percent. None if it was measured on
            another data set or was not published.
        data: The name of the data set.
        model: A name from `keras_vit.list_models`, or the function that builds a family, such as "ViT".
        model_settings: Arguments of the model, such as `drop_path_rate`.
        weights: The weights to start from: a tag from `keras_vit.list_weights`, or a path. None starts from random
            weights.
        teacher: The path of a saved model for the student to learn from. None trains without a teacher.
        head_bias: The initial bias of a new classifier. None keeps the model's default.
        method: How the model is trained without labels, see `keras_vit.training.pretrain`. None trains a classifier.
        pipeline: How the images are loaded, augmented and preprocessed.
        hyperparameters: How the model is trained.
    """

    paper: str
    hardware: str = "not published"
    time: str = "not published"
    top1: float | None = None
    data: str = "ImageNet-1k"
    model: str
    model_settings: Mapping = field(default_factory=dict)
    weights: str | None = None
    teacher: str | None = None
    head_bias: float | None = None
    method: Method | None = None
    pipeline: Pipeline
    hyperparameters: Hyperparameters

    def __str__(self):
        lines = [f"{name} = {value!r}" for name, value in fields_of(self).items()]
        highest = self.hyperparameters.peak_learning_rate(self.pipeline.batch_size)
        return "\n".join([*lines, f"# The highest learning rate, for these batches: {highest:g}"])


def images(model: str, weights: str | None = None, **changes) -> Pipeline:
    """Return a pipeline with a model's image size.

    It does not state how images are normalized and cropped for evaluation, so that it asks the model.

    Args:
        model: A name from `keras_vit.list_models`.
        weights: A tag of the model's weights, which may have another image size than the model's default.
        changes: Further fields of `Pipeline`. They take precedence over the model's image size.
    """
    is_file = weights is not None and weights.endswith((".safetensors", ".npz", ".h5", ".keras"))
    known = variant(model) if weights is None or is_file else find_weights(model, weights)
    return Pipeline(**{"image_size": known.image_size[0], **changes})


def deferred_images(*args, **kwargs) -> Any:
    """Return a function that gives what `images` gives, for `complete` to call.

    Only a recipe that is asked for needs its model, so one for a missing model hides no others.
    """
    return functools.partial(images, *args, **kwargs)


def complete(recipe: Recipe) -> Recipe:
    """Return a recipe with its pipeline, which `deferred_images` may have left for later."""
    return dataclasses.replace(recipe, pipeline=recipe.pipeline()) if callable(recipe.pipeline) else recipe


def fields_of(recipe: Recipe) -> dict:
    """Return the value of every field that can be changed, by dotted name, such as "pipeline.augmentation.mixup"."""

    def within(value, prefix):
        for part in dataclasses.fields(value):
            item, name = getattr(value, part.name), f"{prefix}{part.name}"
            if isinstance(item, (Pipeline, Hyperparameters, Augmentation, *METHODS.values())):
                yield from within(item, f"{name}.")
            else:
                yield name, item

    return dict(within(recipe, ""))


def changed(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """Return a copy of a recipe with some fields changed.

    Args:
        recipe: A recipe.
        changes: The new values by field name. The end of a dotted name is enough if it is unique, such as
            "learning_rate" or "augmentation.mixup".

    Raises:
        ValueError: If a name matches no field or several fields, or if a value has the wrong type.
    """
    tree: dict = {}
    for name, value in changes.items():
        *path, last = _full_name(recipe, name).split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = plain(value)
    length = tree.get("hyperparameters", {})
    # A length in epochs replaces one in steps, and vice versa.
    for given, other in (("epochs", "steps"), ("steps", "epochs")):
        if length.get(given) is not None:
            length.setdefault(other, None)
    return _replaced(recipe, tree)


def parsed(text: str):
    """Parse the value of a field without evaluating any code.

    Args:
        text: A Python literal, such as `0.1`, `None` or `{"momentum": 0.9}`; a class of the pipeline with literal
            arguments, such as `RandAugment(magnitude=5)`; or any other text, such as `sgd`, which is returned as it is.

    Raises:
        ValueError: If the text contains a call, but not to one of these classes with literal arguments.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        if "(" in text:
            raise ValueError(
                f"{text!r} is not a valid value; use a number, a string, a list, a dictionary, None, or one of "
                f"{', '.join(_KINDS)} with such values as arguments."
            ) from None
        return text


def _value(node):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
        arguments = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
        return _KINDS[node.func.id](*map(_value, node.args), **arguments)
    return ast.literal_eval(node)


def _full_name(recipe, name):
    known = fields_of(recipe)
    # A whole group of fields, such as the augmentation, can also be replaced at once.
    groups = {full.rpartition(".")[0] for full in known} - {"", "pipeline", "hyperparameters"}
    found = [full for full in (*known, *groups) if full == name] or [
        full for full in (*known, *groups) if full.endswith(f".{name}")
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{name!r} is ambiguous; use the full name: {' or '.join(found)}.")
    near = difflib.get_close_matches(name, [*known, *(full.rpartition(".")[2] for full in known)], n=3, cutoff=0.5)
    raise ValueError(f"A recipe has no field {name!r}. " + (f"The nearest are {', '.join(near)}." if near else ""))


def _replaced(value, tree):
    hints = typing.get_type_hints(type(value))
    fields = {}
    for name, new in tree.items():
        current = getattr(value, name)
        if isinstance(new, dict) and dataclasses.is_dataclass(current):
            new = _replaced(current, new)
        _check_type(name, hints[name], new)
        fields[name] = float(new) if isinstance(new, int) and isinstance(current, float) else new
    return dataclasses.replace(value, **fields)


def _check_type(name, hint, value):
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    allowed = tuple(typing.get_origin(option) or option for option in options)
    if float in allowed:
        allowed += (int,)
    odd = [kind for kind in (bool, str) if isinstance(value, kind) and kind not in allowed]
    if odd or not isinstance(value, allowed):
        wanted = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in allowed)
        raise ValueError(f"{name} must be {wanted}; received {value!r}.")
