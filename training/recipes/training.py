"""Train a model by a recipe."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

import keras_vit
from keras_vit.models.registry import builders
from keras_vit.training.data import ImageData, open_data
from keras_vit.training.distribution.strategy import precision as precision_of
from keras_vit.training.recipes.base import Recipe
from keras_vit.training.running.trainer import TrainingResult, fit
from keras_vit.training.steps.sizes import train_at_sizes
from keras_vit.utils.files import saved_model


def train(
    recipe: Recipe,
    data: ImageData | str,
    run_dir: str | Path,
    *,
    strategy: tf.distribute.Strategy | None = None,
    precision: str | None = None,
    seed: int = 0,
    **settings,
) -> TrainingResult:
    """Build a recipe's model and train it.

    Args:
        recipe: A recipe such as `recipe("deit_s16")`, or a changed one.
        data: Image data, or the name of a source that `open_data` opens with the recipe's pipeline.
        run_dir: See `fit`.
        strategy: A strategy of `training.strategy`. The default is the current one.
        precision: A dtype policy. The default suits the strategy's devices.
        seed: Seed of the starting weights, of dropout, and of data that are opened here.
        settings: Further arguments of `fit`, such as resume.

    Raises:
        ValueError: Recipe, data and model don't fit together.
        Further errors: see `open_data` and `fit`.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(data, str):
        pipeline = dataclasses.replace(recipe.pipeline, seed=seed)
        data = open_data(data, **{field.name: getattr(pipeline, field.name) for field in dataclasses.fields(pipeline)})
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = build_model(recipe, data, precision or precision_of(strategy))
        if recipe.pipeline.multi_scale is not None:
            train_at_sizes(model, recipe.pipeline.multi_scale.sizes)
            settings["synchronized"] = False  # Models of several sizes can't be synchronized.
        teacher = None if recipe.teacher is None else saved_model(recipe.teacher)
    description = {name: str(value) for name, value in vars(recipe).items() if name not in _ELSEWHERE}
    return fit(
        model,
        data,
        run_dir=run_dir,
        hyperparameters=recipe.hyperparameters,
        teacher=teacher,
        seed=seed,
        notes={"recipe": description},
        **settings,
    )


_ELSEWHERE = ("pipeline", "hyperparameters")  # Among the settings of run.json already.


def build_model(recipe: Recipe, data: ImageData, dtype: str) -> keras.Model:
    """Build a recipe's model for some data, with its weights."""
    arguments = {
        "classes": data.classes,
        "input_shape": data.input_shape,
        "dtype": dtype,
        "classifier_activation": "softmax" if recipe.hyperparameters.loss == "softmax" else None,
        **recipe.model_settings,
    }
    saved = recipe.weights if recipe.weights is not None and recipe.weights.endswith(".keras") else None
    if saved is None:
        arguments["weights"] = recipe.weights
    if recipe.model in builders():
        model = getattr(keras_vit, recipe.model)(**arguments)
    else:
        model = keras_vit.create_model(recipe.model, **arguments)
    if saved is not None:
        _take_weights(model, saved_model(saved), data.classes)
    if recipe.head_bias is not None and recipe.weights is None:
        bias = model.get_layer("head").bias
        bias.assign(keras.ops.full(bias.shape, recipe.head_bias))
    return model


def _take_weights(model, trained, classes):
    """Copy the weights of a model of the same kind, which may have another image size and other classes."""
    trained = keras_vit.resize_model(trained, model.input_shape[1:])
    if trained.output_shape[-1] != classes:
        trained = keras_vit.new_head(trained, classes)
    shapes = [[tuple(weight.shape) for weight in one.weights] for one in (model, trained)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"The weights of {trained.name} are not of the shapes of {model.name}'s.")
    model.set_weights(trained.get_weights())
