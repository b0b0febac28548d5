"""The `keras-vit pretrain` command, and its recipes."""

import argparse
import json

import numpy as np
import pytest

from keras_vit import training
from keras_vit.cli import pretrain as command
from keras_vit.models.image_facts import UNIT
from keras_vit.models.model_images import image_facts
from keras_vit.training.recipes import changed
from keras_vit.training.recipes.training import build_encoder
from keras_vit.utils.files import saved_model

TOKENS = {"patch_size": 8, "width": 16, "depth": 1, "num_heads": 1}


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


def settings_of(capsys, *arguments):
    run(*arguments, "--dry-run")
    return dict(line.split(" = ", 1) for line in capsys.readouterr().out.splitlines() if " = " in line)


# By recipe: highest learning rate, weight decay at the start and at the end, batch size, epochs, warm-up.
PUBLISHED = {
    "mae_b16": (2.4e-3, 0.05, None, 4096, 1600, 40),
    "mae_l16": (2.4e-3, 0.05, None, 4096, 1600, 40),
    "mae_h14": (2.4e-3, 0.05, None, 4096, 1600, 40),
    "dino_s16": (2e-3, 0.04, 0.4, 1024, 300, 10),
    "beit_b16": (1.5e-3, 0.05, None, 2048, 800, 10),
    "beit_l16": (1.5e-3, 0.05, None, 2048, 800, 10),
    "idmm_deit_ti16": (5e-4, 1e-3, None, 256, 800, 2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name):
    recipe = training.recipe(name)
    numbers, batch_size = recipe.hyperparameters, recipe.pipeline.batch_size
    found = (
        numbers.peak_learning_rate(batch_size),
        numbers.weight_decay,
        numbers.final_weight_decay,
        batch_size,
        numbers.epochs,
        numbers.warmup_epochs,
    )
    assert found == pytest.approx(PUBLISHED[name])


def test_further_published_settings():
    mae, dino = training.recipe("mae_b16"), training.recipe("dino_s16")
    assert changed(mae, {"mask_ratio": 0.75, "normalize_targets": True, "clip_norm": None}) == mae
    assert mae.hyperparameters.optimizer_settings == {"beta_2": 0.95}
    details = {
        "teacher_momentum": 0.996,
        "final_teacher_temperature": 0.07,
        "temperature_epochs": 30,
        "clip_variable_norm": 3.0,
        "prototypes": 65536,
        "train_gain": True,
    }
    assert changed(dino, details) == dino
    assert [view.image_size for view in dino.pipeline.views] == [224] * 2 + [96] * 8
    tuned = training.recipe("mae_l16_finetune")
    assert (tuned.hyperparameters.layer_decay, tuned.hyperparameters.epochs) == (0.75, 50)
    assert tuned.hyperparameters.peak_learning_rate(1024) == pytest.approx(4e-3)
    assert tuned.model_settings["drop_path_rate"] == 0.2 and tuned.model_settings["pooling"] == "avg"


def test_further_published_settings_of_beit():
    beit = training.recipe("beit_b16")
    details = {
        "mask_ratio": 75 / 196,
        "smallest_block": 16,
        "aspect": 0.3,
        "vocabulary": 8192,
        "clip_norm": 3.0,
        "final_learning_rate": 1e-5,
        "jitter": training.ColorJitter(0.4, 0.4, 0.4),
    }
    assert changed(beit, details) == beit
    assert beit.model_settings["drop_path_rate"] == 0.1
    base, large = (training.recipe(f"beit_{size}_finetune") for size in ("b16", "l16"))
    numbers = [
        (tuned.peak_learning_rate(1024), tuned.epochs, tuned.warmup_epochs, tuned.layer_decay)
        for tuned in (base.hyperparameters, large.hyperparameters)
    ]
    assert numbers == [(4e-3, 100, 20, 0.65), (1e-3, 50, 5, 0.75)]


def test_published_settings_of_igpt():
    igpt = training.recipe("igpt_l")
    details = {
        "steps": 1_000_000,
        "batch_size": 128,
        "warmup_epochs": 1,
        "schedule": "cosine",
        "final_learning_rate": 0.0,
        "optimizer_settings": {"beta_2": 0.95},
        "weight_decay": 0.0,
    }
    assert changed(igpt, details) == igpt


def test_published_settings_of_the_fine_tuning_after_instance_discrimination():
    short, long = (training.recipe(f"idmm_deit_ti16_finetune{end}") for end in ("", "_448"))
    assert (
        changed(short, {"pipeline.image_size": 224, "batch_size": 256, "epochs": 200, "learning_rate": 5e-4}) == short
    )
    assert changed(long, {"pipeline.image_size": 448, "batch_size": 128, "epochs": 100, "learning_rate": 5e-5}) == long
    details = {"mixup": 0.5, "cutmix": 0.5, "gray": 0.2, "weight_decay": 1e-3, "warmup_epochs": 2}
    for each in (short, long):
        assert changed(each, {**details, "label_smoothing": 0.1, "model_settings": {"drop_path_rate": 0.1}}) == each


def test_the_list_has_only_recipes_without_labels(capsys):
    run("--list")
    names = capsys.readouterr().out.split()
    assert names == sorted(name for name in training.list_recipes() if training.recipe(name).method is not None)
    small = ("beit", "dino", "igpt", "instance_discrimination", "mae", "tokenizer")
    assert {"beit_b16", "dino_s16", "igpt_s", "mae_b16", *(f"digits_{name}" for name in small)} <= set(names)


def test_a_method_takes_any_model_of_the_family(capsys):
    settings = settings_of(capsys, "--method", "mae", "--model", "vit_s16", "--epochs", 30)
    assert settings["model"] == "'vit_s16'" and settings["hyperparameters.epochs"] == "30"
    assert settings["method.mask_ratio"] == "0.75" and settings["pipeline.batch_size"] == "256"
    run("--method", "dino", "--model", "dinov2_s14", "--image-size", 224, "--dry-run", "--json")
    views = json.loads(capsys.readouterr().out)["pipeline.augmentation"]
    assert [view["image_size"] for view in views] == [224] * 2 + [98] * 8
    settings = settings_of(capsys, "--method", "beit", "--model", "beit_b16", "--set", "tokenizer=encoder.keras")
    assert settings["method.tokenizer"] == "'encoder.keras'" and settings["pipeline.codes"] == "None"
    settings = settings_of(capsys, "--method", "tokenizer", "--model", "beit_b16", "--set", "vocabulary=512")
    assert settings["method.vocabulary"] == "512" and settings["hyperparameters.epochs"] == "100"
    settings = settings_of(capsys, "--method", "igpt", "--model", "igpt_m")
    assert settings["pipeline.image_size"] == "32" and settings["hyperparameters.steps"] == "None"
    settings = settings_of(capsys, "--recipe", "mae_b16", "--set", "mask_ratio=0.6")
    assert settings["method.mask_ratio"] == "0.6"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Pass either --recipe NAME or --method"),
        (("--method", "mae"), "--method needs --model NAME"),
        (("--recipe", "mae_b16", "--method", "mae"), "Pass either"),
        (("--recipe", "deit_s16"), "'deit_s16' needs labels: use `keras-vit train`"),
        (("--recipe", "digits_mae"), "--run-dir FOLDER"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)


def test_a_recipe_without_labels_does_not_train_a_classifier(tmp_path):
    with pytest.raises(ValueError, match=r"use training\.pretrain_recipe or `keras-vit pretrain`"):
        training.train(training.recipe("digits_mae"), "digits", tmp_path / "run")
    with pytest.raises(ValueError, match=r"trains a classifier; use training\.train"):
        training.pretrain_recipe(training.recipe("digits_vit"), "digits", tmp_path / "run")


@pytest.mark.slow
def test_the_command_trains_an_encoder_and_train_fine_tunes_it(tmp_path, capsys):
    small = ["--epochs", 1, "--warmup-epochs", 0, "--set", f"model_settings={TOKENS}"]
    mae = tmp_path / "mae"
    run("--recipe", "digits_mae", "--run-dir", mae, *small)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{mae / 'encoder.keras'}: loss ")
    run("--recipe", "digits_dino", "--run-dir", tmp_path / "dino", *small, "--set", "prototypes=16")
    encoder = mae / "encoder.keras"
    tuned = {**TOKENS, "pooling": "avg", "position_embedding": "sincos2d_mae", "norm_after_pooling": True}
    changes = {"warmup_epochs": 0, "model_settings": tuned, "epochs": 1, "learning_rate": 1e-9}
    recipe = changed(training.recipe("digits_vit"), {**changes, "weights": str(encoder)})
    result = training.train(recipe, "digits", tmp_path / "tuned", verbose=0)
    kernels = []
    for path in (encoder, result.best_model):
        kernels.append(np.asarray(saved_model(path).get_layer("block_0").mlp.expand.kernel))
    np.testing.assert_allclose(*kernels, atol=1e-6)
    wrong = changed(recipe, {"model_settings": {**tuned, "depth": 2}})
    with pytest.raises(ValueError, match=r"does not have the weights block_1.* of vit"):
        training.train(wrong, "digits", tmp_path / "wrong", verbose=0)


@pytest.mark.slow
def test_the_command_trains_a_tokenizer_and_an_encoder_with_it(tmp_path, capsys):
    small = ["--epochs", 1, "--warmup-epochs", 0, "--set", f"model_settings={TOKENS}"]
    run("--recipe", "digits_tokenizer", "--run-dir", tmp_path / "tokenizer", *small)
    tokenizer = tmp_path / "tokenizer" / "encoder.keras"
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tokenizer}: loss ")
    sizes = ["--set", "mask_ratio=0.5", "--set", "smallest_block=1"]
    run("--recipe", "digits_beit", "--run-dir", tmp_path / "beit", "--set", f"tokenizer={tokenizer}", *sizes, *small)
    encoder = tmp_path / "beit" / "encoder.keras"
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{encoder}: loss ")
    changes = {"model": "BEiT", "model_settings": TOKENS, "epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-9}
    recipe = changed(training.recipe("digits_vit"), {**changes, "weights": str(encoder)})
    result = training.train(recipe, "digits", tmp_path / "tuned", verbose=0)
    kernels = [
        np.asarray(saved_model(path).get_layer("block_0").mlp.expand.kernel) for path in (encoder, result.best_model)
    ]
    np.testing.assert_allclose(*kernels, atol=1e-6)


def test_the_encoder_of_a_recipe_is_the_methods(tmp_path):
    data = training.digits(16)
    mae = build_encoder(training.recipe("digits_mae"), data, "float32")
    assert mae.get_layer("position_embedding").kind == "sincos2d_mae" and len(mae.output_shape) == 3
    dino = build_encoder(training.recipe("digits_dino"), data, "float32")
    assert dino.get_layer("position_embedding").resizing == "cubic_offset"
    assert image_facts(mae).statistics == UNIT
    beit = build_encoder(training.recipe("digits_beit"), data, "float32")
    first, last = (beit.get_layer(f"block_{index}").attention.bias.table for index in (0, 3))
    assert first is last
