"""Published training recipes, one module per paper: the docstring explains it, and a table has its numbers.

`recipe("deit_s16")` returns a recipe, `train` trains a model with it, and `keras-vit train --recipe deit_s16` does
both.
"""

import difflib
import fnmatch
import importlib

from keras_vit.training.recipes import (
    augreg,
    beit,
    better_vit,
    cait,
    coatnet,
    convmixer,
    convnext,
    cpvt,
    cvt,
    deit,
    deit3,
    digits,
    dino,
    efficientvit,
    efficientvit_msra,
    fixres,
    igpt,
    instance_discrimination,
    mae,
    mlp_mixer,
    mobile_former,
    mobilevit,
    mobilevit_v2,
    mvitv2,
    nat,
    pvt,
    sam,
    small_data,
    swin,
    t2t,
    tnt,
    transfer,
    vit,
    xcit,
)
from keras_vit.training.recipes.base import Recipe, changed, complete, fields_of, images, parsed

__all__ = ["Recipe", "changed", "fields_of", "images", "list_recipes", "parsed", "recipe", "train"]


def __getattr__(name: str):
    if name == "train":  # Imported on first use, because it imports Keras and TensorFlow.
        return importlib.import_module("keras_vit.training.recipes.training").train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_MODULES = (
    vit,
    augreg,
    better_vit,
    deit,
    deit3,
    fixres,
    sam,
    mobilevit,
    mobilevit_v2,
    mobile_former,
    efficientvit,
    efficientvit_msra,
    swin,
    convnext,
    mlp_mixer,
    convmixer,
    cait,
    xcit,
    coatnet,
    pvt,
    cvt,
    nat,
    mvitv2,
    t2t,
    tnt,
    cpvt,
    small_data,
    transfer,
    mae,
    dino,
    beit,
    instance_discrimination,
    igpt,
    digits,
)
_RECIPES = {name: found for module in _MODULES for name, found in module.RECIPES.items()}


def list_recipes(pattern: str = "*") -> list[str]:
    """Return the names of all recipes that match a pattern, sorted.

    Args:
        pattern: A shell-style pattern such as "deit*".
    """
    return sorted(fnmatch.filter(_RECIPES, pattern))


def recipe(name: str, model: str | None = None) -> Recipe:
    """Return a recipe by its own name, or by the name of its module and the model.

    Args:
        name: A name from `list_recipes()`, or the name of a module of recipes, such as "deit".
        model: The model to train, such as "deit_s16". Only used if `name` is the name of a module.

    Raises:
        ValueError: If there is no such recipe, or if the module has several recipes for the model. The message
            suggests names.
    """
    if name in _RECIPES:
        return complete(_RECIPES[name])
    for module in _MODULES:
        if module.__name__.rpartition(".")[2] == name:
            fitting = [known for known, found in module.RECIPES.items() if model in (None, found.model)]
            if len(fitting) == 1:
                return complete(module.RECIPES[fitting[0]])
            raise ValueError(
                f"{name!r} matches several recipes; choose one of {', '.join(fitting)}."
                if fitting
                else f"{name!r} has no recipe for {model!r}; it has {', '.join(module.RECIPES)}."
            )
    near = difflib.get_close_matches(str(name), _RECIPES, n=3, cutoff=0.4)
    hint = f"The nearest are {', '.join(near)}." if near else "training.list_recipes() returns all names."
    raise ValueError(f"There is no recipe named {name!r}. {hint}")
