"""Every form of every family can be saved, fused, trained and exported, and runs on two backends."""

import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.layers import DropPath
from keras_vit.models import registry
from keras_vit.models.preprocessing import image_facts
from tests.models.cases import all_forms, build, families, forms_of, images_of
from tests.reference import relative_error

FORMS = list(all_forms())
# The first form of each family, for tests that take longer.
FIRST = [f"{family}: {next(iter(forms_of(family).FORMS))}" for family in families()]


FIRST_ARGUMENTS = [
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
]


@functools.cache
def form(name: str) -> keras.Model:
    """Return a form with dropout and stochastic depth. Tests share it and must not change it."""
    return build(name, drop_path_rate=0.1, dropout_rate=0.1)


def outputs(model, images) -> np.ndarray:
    return np.asarray(keras.tree.flatten(model(images, training=False))[0], "float32")


@pytest.mark.parametrize("name", FORMS)
class TestEveryForm:
    def test_saving_and_loading(self, name, tmp_path):
        model = form(name)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(outputs(loaded, images_of(model)), outputs(model, images_of(model)))
        assert image_facts(loaded) == image_facts(model)

    def test_fusing(self, name):
        model, fused = form(name), keras_vit.fuse(form(name))
        assert relative_error(outputs(fused, images_of(model)), outputs(model, images_of(model))) < 1e-5
        gone = (keras.layers.BatchNormalization, keras.layers.Dropout, DropPath)
        assert not any(isinstance(layer, gone) for layer in fused.layers)

    def test_a_file_is_one_partition_with_the_same_outputs(self, name, tmp_path):
        model = form(name)
        file = edge.export(model, tmp_path / "model.tflite")
        audit = edge.audit(file)
        assert audit.partitions == 1 and audit.findings == []
        assert edge.verify(model, file, images_of(model)).max_relative_error < 2e-5

    def test_float16_is_close_to_float32(self, name):
        images = np.random.default_rng(1).uniform(-10, 10, images_of(form(name)).shape).astype("float32")
        mixed = build(name, dtype="mixed_float16")
        given, expected = outputs(mixed, images), outputs(form(name), images)
        assert np.all(np.isfinite(given)) and relative_error(given, expected) < 2e-2

    def test_preprocessing_and_input_tensor(self, name):
        model = form(name)
        statistics = image_facts(model).statistics
        image = keras.Input(model.input_shape[1:])
        settings = {"input_tensor": keras.layers.Rescaling(0.5)(image), "input_shape": None}
        within = build(name, include_preprocessing=True, **settings)
        pixels = np.random.default_rng(0).integers(0, 256, images_of(model).shape).astype("float32")
        normalized = ((pixels / 2 / 255 - statistics.mean) / statistics.std).astype("float32")
        assert within.inputs[0] is image
        assert relative_error(outputs(within, pixels), outputs(model, normalized)) < 1e-4


@pytest.mark.parametrize("name", FIRST)
class TestTheFirstFormOfEveryFamily:
    def test_an_int8_file_gives_the_outputs_of_the_quantized_model(self, name, tmp_path):
        model = form(name)
        quantized = edge.quantize_aware(model, calibration_data=images_of(model, 16))
        file = edge.export(quantized, tmp_path / "int8.tflite", "hybrid_int8")
        audit = edge.audit(file)
        assert audit.partitions == 1 and audit.findings == []
        expected = getattr(forms_of(name.partition(":")[0]), "INT8_SNR_DB", 20)
        assert edge.verify(quantized, file, images_of(model)).snr_db > expected

    def test_a_training_step_changes_weights_and_running_statistics(self, name):
        model = build(name)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = [np.array(variable) for variable in model.weights]
        model.fit(images_of(model), np.arange(3), verbose=0)
        still = {v.path for v, old in zip(model.weights, before, strict=True) if np.array_equal(np.array(v), old)}
        # A softmax ignores a number added to all scores, and a normalization ignores one added to a whole channel.
        unused = getattr(forms_of(name.partition(":")[0]), "WITHOUT_EFFECT", ())
        assert all(path.endswith(("bias", "beta")) or path.startswith(unused) for path in still), still


@pytest.mark.long
@pytest.mark.parametrize("forms", [FIRST, pytest.param(FORMS, marks=pytest.mark.slow)], ids=["first", "all"])
def test_both_backends_give_the_same(forms, tmp_path):
    for index, name in enumerate(forms):
        model = form(name)
        model.save(tmp_path / f"{index}.keras")
        np.save(tmp_path / f"{index}.npy", images_of(model, 1))
    script = """
import sys, jax, keras, numpy, keras_vit
assert keras.backend.backend() == "jax"

def first_output(model, images):
    states = [[v.value for v in each] for each in (model.trainable_variables, model.non_trainable_variables)]
    outputs, _ = jax.jit(lambda *given: model.stateless_call(*given, training=False))(*states, images)
    return numpy.asarray(keras.tree.flatten(outputs)[0])

for index in range(int(sys.argv[1])):
    model, images = keras.models.load_model(f"{index}.keras"), numpy.load(f"{index}.npy")
    numpy.savez(f"{index}.npz", first_output(model, images), first_output(keras_vit.fuse(model), images))
"""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # Nearly all of the time is that of compiling.
    }
    result = subprocess.run(
        [sys.executable, "-c", script, str(len(forms))], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for index, name in enumerate(forms):
        expected = outputs(form(name), np.load(tmp_path / f"{index}.npy"))
        with np.load(tmp_path / f"{index}.npz") as on_jax:
            for given in on_jax.values():
                assert relative_error(given, expected) < 2e-5, name


@pytest.mark.parametrize("name", keras_vit.list_models())
def test_the_first_arguments_are_those_of_keras_applications(name):
    function = getattr(keras_vit, registry.variant(name).function_name)
    parameters = inspect.signature(function).parameters
    first = [
        "include_top",
        "weights",
        "input_tensor",
        "input_shape",
        "pooling",
        "classes",
        "classifier_activation",
        "name",
    ]
    assert list(parameters)[:8] == first and parameters["name"].default == name
    keywords = [parameter.name for parameter in parameters.values() if parameter.kind is parameter.KEYWORD_ONLY]
    assert {"include_preprocessing", "drop_path_rate", "dropout_rate"} <= set(keywords)
    assert list(parameters) == [*FIRST_ARGUMENTS, *keywords]


@pytest.mark.parametrize("builder", registry.builders())
@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("include_top", 0.5, TypeError),
        ("classes", "10", TypeError),
        ("classes", 2.5, TypeError),
        ("classes", True, TypeError),
        ("classes", 0, ValueError),
        ("pooling", "banana", ValueError),
        ("pooling", 3, TypeError),
        ("input_shape", 224, TypeError),
        ("input_shape", (224, 224), ValueError),
        ("input_shape", (3, 224, 224), ValueError),
        ("include_preprocessing", "imagenet", TypeError),
        ("drop_path_rate", "0.1", TypeError),
        ("dropout_rate", None, TypeError),
        ("weights", 5, TypeError),
        ("name", 5, TypeError),
    ],
)
@pytest.mark.parametrize("include_top", [True, False])
def test_an_argument_of_the_wrong_kind_is_refused_by_name(builder, argument, value, error, include_top):
    with pytest.raises(error, match=rf"{argument if error is TypeError else ''}.*(received|channels-last)"):
        getattr(keras_vit, builder)(**{"include_top": include_top, argument: value})


def test_a_number_in_the_first_place_is_refused():
    """In other libraries, the 0.5 in `MobileViTV2(0.5)` is a width. Here it must not become `include_top`."""
    for builder in registry.builders():
        with pytest.raises(TypeError, match=f"{builder}: include_top must be True or False; received 0.5"):
            getattr(keras_vit, builder)(0.5)
