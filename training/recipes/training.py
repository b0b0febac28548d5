"""Train a model with a recipe."""

import dataclasses
import inspect
from pathlib import Path

import keras
import tensorflow as tf

import keras_vit
from keras_vit.graph.classifier import classifiers
from keras_vit.models.builder import set_image_facts
from keras_vit.models.image_facts import Statistics
from keras_vit.models.model_images import image_facts, own_facts
from keras_vit.models.registry import builders, variant
from keras_vit.training.data import ImageData, open_data
from keras_vit.training.distribution.strategy import precision as precision_of
from keras_vit.training.recipes.base import Recipe
from keras_vit.training.running.trainer import TrainingResult, fit
from keras_vit.training.self_supervised.pretrain import PretrainingResult, pretrain
from keras_vit.training.steps.sizes import train_at_sizes
from keras_vit.utils.files import saved_model


def pretrain_recipe(
    recipe: Recipe,
    data: ImageData | str,
    run_dir: str | Path,
    *,
    strategy: tf.distribute.Strategy | None = None,
    precision: str | None = None,
    seed: int = 0,
    **settings,
) -> PretrainingResult:
    """Build the encoder of a recipe and train it without labels.

    Args:
        recipe: A recipe with a method, such as `recipe("mae_b16_imagenet")`.
        data: Image data, or the name of a source. `open_data` opens the source with the recipe's pipeline.
        run_dir: The folder of the run, see `pretrain`.
        strategy: A strategy from `training.strategy`. By default, the current strategy is used.
        precision: A dtype policy. The default is `training.precision(strategy)`.
        seed: The seed of the initial weights and of everything random, and of the data if `data` is a name.
        settings: Further arguments of `pretrain`, such as `resume`.

    Returns:
        The result of `pretrain`.

    Raises:
        ValueError: If the recipe trains a classifier, or the recipe, the data and the model don't match.

    `open_data` and `pretrain` describe further errors.
    """
    if recipe.method is None:
        raise ValueError("The recipe trains a classifier; use training.train or `keras-vit train`.")
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(data, str):
        data = _opened(recipe, data, seed)
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        encoder = build_encoder(recipe, data, precision or precision_of(strategy))
    return pretrain(
        encoder,
        data,
        recipe.method,
        run_dir=run_dir,
        hyperparameters=recipe.hyperparameters,
        seed=seed,
        notes={"recipe": {"model": recipe.model, "paper": recipe.paper}},
        **settings,
    )


def build_encoder(recipe: Recipe, data: ImageData, dtype: str) -> keras.Model:
    """Build the encoder that a recipe trains without labels, for the given data, and load the recipe's weights."""
    is_builder = recipe.model in builders()
    function = getattr(keras_vit, recipe.model if is_builder else variant(recipe.model).function_name)
    taken = inspect.signature(function).parameters
    assert recipe.method is not None  # `pretrain_recipe` has checked it.
    of_method = {name: value for name, value in recipe.method.encoder_settings.items() if name in taken}
    settings = {**of_method, **recipe.model_settings}
    encoder = function(include_top=False, input_shape=data.input_shape, dtype=dtype, weights=recipe.weights, **settings)
    return _with_image_facts_of(recipe, encoder)


def _opened(recipe: Recipe, source: str, seed: int) -> ImageData:
    pipeline = dataclasses.replace(recipe.pipeline, seed=seed)
    return open_data(source, **{field.name: getattr(pipeline, field.name) for field in dataclasses.fields(pipeline)})


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
    """Build the model of a recipe and train it.

    Args:
        recipe: A recipe, such as `recipe("deit_s16")`.
        data: Image data, or the name of a source. `open_data` opens the source with the recipe's pipeline.
        run_dir: The folder of the run, see `fit`.
        strategy: A strategy from `training.strategy`. By default, the current strategy is used.
        precision: A dtype policy. The default is `training.precision(strategy)`.
        seed: The seed of the initial weights, of dropout, and of the data if `data` is a name.
        settings: Further arguments of `fit`, such as `resume`.

    Returns:
        The result of `fit`.

    Raises:
        ValueError: If the recipe, the data and the model don't match.

    `open_data` and `fit` describe further errors.
    """
    if recipe.method is not None:
        raise ValueError("The recipe trains without labels; use training.pretrain_recipe or `keras-vit pretrain`.")
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(data, str):
        data = _opened(recipe, data, seed)
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = build_model(recipe, data, precision or precision_of(strategy))
        if recipe.pipeline.multi_scale is not None:
            train_at_sizes(model, recipe.pipeline.multi_scale.sizes)
            settings["synchronized"] = False  # Batch normalization at several sizes can't be synchronized.
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


_ELSEWHERE = ("pipeline", "hyperparameters")  # The settings in run.json already contain them.


def build_model(recipe: Recipe, data: ImageData, dtype: str) -> keras.Model:
    """Build the model of a recipe for the given data, and load the recipe's weights."""
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
        _take_weights(model, saved_model(saved), data.classes, saved)
    if recipe.head_bias is not None and recipe.weights is None:
        bias = model.get_layer("head").bias
        bias.assign(keras.ops.full(bias.shape, recipe.head_bias))
    return _with_image_facts_of(recipe, model)


def _with_image_facts_of(recipe, model):
    """Record in a model how it takes images, where the recipe states it, so that the model says the same as the data.

    Published weights decide the statistics: `fit` refuses data that states others.
    """
    facts, pipeline = image_facts(model), recipe.pipeline
    if isinstance(pipeline.statistics, Statistics) and facts.source is None:
        facts = dataclasses.replace(facts, statistics=pipeline.statistics)
    if pipeline.evaluation is not None:
        crop = pipeline.evaluation
        facts = dataclasses.replace(facts, crop_fraction=crop.fraction, interpolation=crop.interpolation)
    return set_image_facts(model, facts)


def _take_weights(model, trained, classes, path):
    """Copy the weights of a trained model of the same architecture, whose image size and classes may differ.

    An encoder without a classifier, such as one that `pretrain` trained, leaves the model its own.
    """
    if not classifiers(trained):
        report = keras_vit.load_weights(model, path, partial=True)
        if others := [name for name in report.left_as_it_was if not name.startswith(("head", "fc_norm"))]:
            raise ValueError(f"{path!r} does not have the weights {', '.join(others[:5])} of {model.name}.")
        return
    trained = keras_vit.resize_model(trained, model.input_shape[1:])
    if trained.output_shape[-1] != classes:
        trained = keras_vit.new_head(trained, classes)
    shapes = [[tuple(weight.shape) for weight in one.weights] for one in (model, trained)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"The weights of {trained.name} and {model.name} don't have the same shapes.")
    model.set_weights(trained.get_weights())
    if own_facts(trained) is not None:
        set_image_facts(model, image_facts(trained))
