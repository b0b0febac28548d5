"""Define a recipe: a model, its images, its hyperparameters, and what its authors report."""

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from keras_vit.models.image_facts import Statistics
from keras_vit.models.registry import find_weights, variant
from keras_vit.training.augment import (
    Augmentation,
    AutoAugment,
    CenterCrop,
    ColorJitter,
    RandAugment,
    RandomResizedCrop,
    SimpleRandomCrop,
    ThreeAugment,
)
from keras_vit.training.data import MultiScale, Pipeline
from keras_vit.training.running.hyperparameters import Hyperparameters

# Classes that a value given as text may name.
_KINDS = {
    kind.__name__: kind
    for kind in (
        Augmentation,
        AutoAugment,
        CenterCrop,
        ColorJitter,
        MultiScale,
        RandAugment,
        RandomResizedCrop,
        SimpleRandomCrop,
        Statistics,
        ThreeAugment,
    )
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published way to train a model.

    Attributes:
        paper: Source, with the table or section.
        hardware: Hardware that the authors trained on.
        time: How long their training took.
        top1: Their top-1 accuracy on ImageNet-1k's validation images in percent, or None if it is of another data set
            or was not published.
        data: Name of the data.
        model: A name of `keras_vit.list_models`, or a family's builder such as "ViT".
        model_settings: Arguments of the model, such as drop_path_rate.
        weights: Weights to start from: a tag of `keras_vit.list_weights`, or a path. None starts from random weights.
        teacher: Path of a saved model that the student learns from. None trains without a teacher.
        head_bias: Initial bias of a new classifier. None keeps the model's own.
        pipeline: How images are prepared.
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
    pipeline: Pipeline
    hyperparameters: Hyperparameters

    def __str__(self):
        lines = [f"{name} = {value!r}" for name, value in fields_of(self).items()]
        highest = self.hyperparameters.peak_learning_rate(self.pipeline.batch_size)
        return "\n".join([*lines, f"# The highest learning rate, for these batches: {highest:g}"])


def images(model: str, weights: str | None = None, **changes) -> Pipeline:
    """Return the pipeline with a model's image size, statistics and evaluation crop.

    Args:
        model: A name of `keras_vit.list_models`.
        weights: A tag of the model, whose weights may need other settings.
        changes: Fields of `Pipeline`.
    """
    known = variant(model)
    size, statistics = known.image_size, known.statistics
    crop, interpolation = known.crop_fraction, known.interpolation
    if weights is not None and not weights.endswith((".safetensors", ".npz", ".h5", ".keras")):
        record = find_weights(model, weights)
        size, statistics = record.image_size, record.statistics
        crop, interpolation = record.crop_fraction, record.interpolation
    settings = {"image_size": size[0], "statistics": statistics, "evaluation": CenterCrop(crop, interpolation)}
    return Pipeline(**{**settings, **changes})


def fields_of(recipe: Recipe) -> dict:
    """Return every field that can be changed, by its dotted name, such as "pipeline.augmentation.mixup"."""

    def within(value, prefix):
        for part in dataclasses.fields(value):
            item, name = getattr(value, part.name), f"{prefix}{part.name}"
            if isinstance(item, Pipeline | Hyperparameters | Augmentation):
                yield from within(item, f"{name}.")
            else:
                yield name, item

    return dict(within(recipe, ""))


def changed(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """Return the recipe with other values of some fields.

    Args:
        recipe: A recipe.
        changes: Values by the names of the fields, or by the end of a name if it is unique, such as "learning_rate" or
            "augmentation.mixup".

    Raises:
        ValueError: A name fits no field or several, or a value has the wrong type.
    """
    tree: dict = {}
    for name, value in changes.items():
        *path, last = _full_name(recipe, name).split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    length = tree.get("hyperparameters", {})
    # A length in epochs takes the place of one in steps, and the reverse.
    for given, other in (("epochs", "steps"), ("steps", "epochs")):
        if length.get(given) is not None:
            length.setdefault(other, None)
    return _replaced(recipe, tree)


def parsed(text: str):
    """Parse a value: a Python literal, one of the classes above with literal arguments, or else the text itself.

    Examples are `0.1`, `None`, `{"momentum": 0.9}`, `RandAugment(magnitude=5)` and `sgd`. Nothing is evaluated.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        if "(" in text:
            raise ValueError(
                f"{text!r} is no value: it may be a number, a text, a list, a dictionary, None, or one of "
                f"{', '.join(_KINDS)} with such values."
            ) from None
        return text


def _value(node):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
        arguments = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
        return _KINDS[node.func.id](*map(_value, node.args), **arguments)
    return ast.literal_eval(node)


def _full_name(recipe, name):
    known = fields_of(recipe)
    # A group such as the whole augmentation can be given at once.
    groups = {full.rpartition(".")[0] for full in known} - {"", "pipeline", "hyperparameters"}
    found = [full for full in (*known, *groups) if full == name] or [
        full for full in (*known, *groups) if full.endswith(f".{name}")
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{name!r} may be {' or '.join(found)}; write which.")
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
        raise ValueError(f"{name} is {wanted}; received {value!r}.")
