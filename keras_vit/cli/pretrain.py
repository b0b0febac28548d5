"""The `keras-vit pretrain` command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keras_vit.cli.common import print_json
from keras_vit.cli.train import FIELDS, add_run_arguments, describe_or_check, with_changes

if TYPE_CHECKING:
    from keras_vit.training.recipes import Recipe

# The options of `keras-vit train`, except those that need labels.
_FIELDS = {name: field for name, field in FIELDS.items() if name not in ("teacher", "label_smoothing")}
# The recipe whose settings a method has for any other model. Its batch is for one machine.
_RECIPES = {
    "mae": "mae_b16",
    "dino": "dino_s16",
    "beit": "beit_b16",
    "tokenizer": "beit_b16_tokenizer",
    "instance_discrimination": "idmm_deit_ti16",
    "igpt": "igpt_s",
}
_BATCH_SIZE, _EPOCHS = 256, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Train an encoder of the ViT, BEiT or iGPT family without labels. The run folder holds encoder.keras, the "
        "logs, the settings, and checkpoints to resume from. `keras-vit train --weights RUN/encoder.keras` fine-tunes "
        "it."
    )
    parser.add_argument("--recipe", metavar="NAME", help="a recipe that --list prints")
    parser.add_argument("--method", choices=sorted(_RECIPES), help="the method, together with --model")
    add_run_arguments(parser, _FIELDS)


def run(given: argparse.Namespace) -> None:
    """Train, and print the path of the encoder."""
    from keras_vit.training.recipes import list_recipes, recipe

    if given.list:
        names = [name for name in list_recipes() if recipe(name).method is not None]
        print_json(names) if given.json else print(*names, sep="\n")
        return
    chosen = recipe_of(given)
    if describe_or_check(chosen, given):
        return

    from keras_vit import training

    result = training.pretrain_recipe(
        chosen,
        given.data,
        given.run_dir,
        strategy=training.strategy(given.strategy),
        precision=given.precision,
        seed=given.seed,
        checkpoint_steps=given.checkpoint_steps,
        resume=given.resume,
    )
    print(f"{result.encoder}: loss {result.history[-1]['loss']:.4f} in epoch {result.history[-1]['epoch']}")


def recipe_of(given: argparse.Namespace) -> Recipe:
    """Return the recipe with the changes that the arguments ask for."""
    import dataclasses

    from keras_vit.training.recipes import changed, images, recipe

    if (given.recipe is None) == (given.method is None):
        raise ValueError(f"Pass either --recipe NAME or --method {'|'.join(_RECIPES)} with --model NAME.")
    if given.recipe is not None:
        chosen = recipe(given.recipe)
        if chosen.method is None:
            raise ValueError(f"The recipe {given.recipe!r} needs labels: use `keras-vit train`.")
        return with_changes(chosen, given, _FIELDS)
    if given.model is None:
        raise ValueError("--method needs --model NAME, such as --model vit_s16.")
    of_method = recipe(_RECIPES[given.method])
    chosen = dataclasses.replace(
        changed(of_method, {"epochs": _EPOCHS, "batch_size": _BATCH_SIZE}),
        paper=f"{of_method.paper}, with other lengths",
        hardware="not published",
        time="not published",
        top1=None,
        data="your own",
        model=given.model,
    )
    pipeline = images(given.model, given.weights, batch_size=_BATCH_SIZE, augmentation=of_method.pipeline.augmentation)
    chosen = with_changes(dataclasses.replace(chosen, pipeline=pipeline), given, _FIELDS)
    if given.method == "dino":
        chosen = _with_crops_of_its_size(chosen)
    return chosen


def _with_crops_of_its_size(chosen: Recipe) -> Recipe:
    """Return a recipe whose small crops have the ratio to its images that the authors' have, in whole patches."""
    from keras_vit.models.registry import variant
    from keras_vit.training.augment import multi_crop
    from keras_vit.training.recipes import changed

    size, patch = chosen.pipeline.image_size, variant(chosen.model).settings.get("patch_size", 14)
    local = max(1, round(size * 96 / 224 / patch)) * patch
    return changed(chosen, {"pipeline.augmentation": multi_crop(size, local)})
