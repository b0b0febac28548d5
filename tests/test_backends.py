"""The layers and models on the JAX backend: the same tests, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

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


def test_layers_pass_on_jax():
    assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/layers")


def test_vit_gives_the_same_on_both_backends(tmp_path):
    weights = timm_file("vit_tiny_patch16_224", tmp_path)
    script = (
        "import keras, numpy, keras_vit; from tests.reference import images;"
        "assert keras.backend.backend() == 'jax';"
        f"model = keras_vit.ViT_Ti16(classifier_activation=None, weights={str(weights)!r});"
        f"numpy.save({str(tmp_path / 'jax.npy')!r}, keras_vit.fuse(model)(images(224)));"
    )
    run("-c", script)
    model = keras_vit.ViT_Ti16(classifier_activation=None, weights=weights)
    assert keras.backend.backend() == "tensorflow"
    assert relative_error(np.load(tmp_path / "jax.npy"), np.asarray(model(images(224)))) < 1e-5


def mobilevits():
    """What one small model of each version gives, with weights that are the same on every backend."""
    random = np.random.RandomState(0)
    # Few different shapes, since JAX compiles for each; the last two maps, 5 x 5 and 3 x 3, are odd.
    sizes = dict(input_shape=(80, 80, 3), stem_channels=8, channels=(8,) * 5, dims=(8,) * 3, depths=(1, 1, 1))
    outputs = []
    for builder in (keras_vit.MobileViT, keras_vit.MobileViTV2):
        model = builder(**sizes, expansion=2, include_top=False)
        for weight in model.weights:
            weight.assign(random.uniform(0.1, 0.3, weight.shape) * random.choice([-1, 1]) ** (len(weight.shape) > 1))
        images = random.normal(size=(2, 80, 80, 3)).astype("float32")
        outputs.append(model.predict(images, verbose=0).ravel())
    return np.concatenate(outputs)


def test_mobilevits_give_the_same_on_both_backends(tmp_path):
    path = tmp_path / "jax.npy"
    run("-c", f"import numpy; from tests.test_backends import mobilevits; numpy.save({str(path)!r}, mobilevits())")
    expected = mobilevits()
    assert np.ptp(expected) > 0.01 and relative_error(np.load(path), expected) < 1e-5


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
