"""The layers and models on the JAX backend, in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.reference import images, relative_error, timm_file

ROOT = Path(__file__).parent.parent


def run(*command, **environment):
    result = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_layers_pass_on_jax():
    assert " passed" in run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/layers",
        *map(str, ROOT.glob("tests/models/*/test_*layers.py")),
    )


def outputs_on_jax(model, inputs, folder):
    """Return the outputs of a saved model on JAX."""
    np.save(folder / "inputs.npy", inputs)
    script = (
        "import keras, numpy, keras_vit; assert keras.backend.backend() == 'jax';"
        f"model = keras.models.load_model({str(model)!r});"
        f"numpy.save({str(folder / 'outputs.npy')!r}, model(numpy.load({str(folder / 'inputs.npy')!r})))"
    )
    run("-c", script)
    return np.load(folder / "outputs.npy")


def test_vit_gives_the_same_outputs_on_both_backends(tmp_path):
    weights = timm_file("vit_tiny_patch16_224", tmp_path)
    script = (
        "import keras, numpy, keras_vit; from tests.reference import images;"
        "assert keras.backend.backend() == 'jax';"
        f"model = keras_vit.ViT_Ti16(classifier_activation=None, weights={str(weights)!r});"
        f"numpy.save({str(tmp_path / 'jax.npy')!r}, keras_vit.fuse(model)(images(224)));"
        "pixels = numpy.arange(90 * 120 * 3).reshape(90, 120, 3) % 256;"
        f"numpy.save({str(tmp_path / 'image.npy')!r}, keras_vit.preprocess_input(pixels, model));"
    )
    run("-c", script)
    model = keras_vit.ViT_Ti16(classifier_activation=None, weights=weights)
    assert keras.backend.backend() == "tensorflow"
    assert relative_error(np.load(tmp_path / "jax.npy"), np.asarray(model(images(224)))) < 1e-5
    image = keras_vit.preprocess_input(np.arange(90 * 120 * 3).reshape(90, 120, 3) % 256, model)
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), image, atol=1e-4)


def test_import_is_light_and_leaves_the_process_alone():
    script = (
        "import os, sys, keras; before = dict(os.environ);"
        "policy, layout = keras.config.dtype_policy().name, keras.config.image_data_format();"
        "import keras_vit;"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported';"
        "assert not any(name.startswith(('tensorflow_model_optimization', 'tf_keras', 'keras_cv', 'ai_edge'))"
        " for name in sys.modules);"
        "assert dict(os.environ) == before;"
        "assert (keras.config.dtype_policy().name, keras.config.image_data_format()) == (policy, layout)"
    )
    run("-c", script)
