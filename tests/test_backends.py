"""The layers and models on the JAX backend: the same tests, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.benchmarks.weights import randomize
from tests.models.mobile_former.test_mobile_former import tiny
from tests.models.vit.forms import FORMS, form
from tests.models.vit.forms import images as images_of_forms
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
    """What a saved model gives on JAX."""
    np.save(folder / "inputs.npy", inputs)
    script = (
        "import keras, numpy, keras_vit; assert keras.backend.backend() == 'jax';"
        f"model = keras.models.load_model({str(model)!r});"
        f"numpy.save({str(folder / 'outputs.npy')!r}, model(numpy.load({str(folder / 'inputs.npy')!r})))"
    )
    run("-c", script)
    return np.load(folder / "outputs.npy")


def test_every_form_gives_the_same_on_both_backends(tmp_path):
    models = {which: form(which, name=f"form_{index}") for index, which in enumerate(FORMS)}
    inputs = keras.Input((16, 16, 3))
    together = keras.Model(inputs, {which: model(inputs) for which, model in models.items()})
    together.save(tmp_path / "forms.keras")
    script = (
        "import keras, numpy, keras_vit; from tests.models.vit.forms import images;"
        "assert keras.backend.backend() == 'jax';"
        f"outputs = keras.models.load_model({str(tmp_path / 'forms.keras')!r})(images());"
        f"numpy.savez({str(tmp_path / 'jax.npz')!r}, **outputs);"
    )
    run("-c", script)
    with np.load(tmp_path / "jax.npz") as on_jax:
        assert set(on_jax) == set(FORMS)
        for which, model in models.items():
            np.testing.assert_allclose(on_jax[which], model(images_of_forms()), atol=1e-5, err_msg=which)


def test_vit_gives_the_same_on_both_backends(tmp_path):
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


@pytest.mark.parametrize("family", ["EfficientViT", "EfficientViT_MSRA"])
def test_efficientvit_gives_the_same_on_both_backends(family, tmp_path):
    tiny = {
        "EfficientViT": dict(channels=(4, 8, 8, 16, 16), depths=(1, 1, 1, 1, 1), head_dim=8, head_channels=(20, 12)),
        "EfficientViT_MSRA": dict(channels=(16, 16, 24), depths=(1, 1, 1), num_heads=(2, 2, 3)),
    }
    model = getattr(keras_vit, family)(**tiny[family], input_shape=(128, 128, 3), classifier_activation=None)
    randomize(model)
    model.save(tmp_path / "model.keras")
    script = (
        "import keras, numpy, keras_vit; from tests.reference import images;"
        "assert keras.backend.backend() == 'jax';"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r});"
        f"numpy.save({str(tmp_path / 'jax.npy')!r}, keras_vit.fuse(model)(images(128)));"
    )
    run("-c", script)
    assert relative_error(np.load(tmp_path / "jax.npy"), np.asarray(model(images(128)))) < 1e-5


def mobilevits():
    """What one small model of each version gives, with weights that are the same on every backend."""
    random = np.random.RandomState(0)
    # Few different shapes, since JAX compiles for each; the last two maps, 5 x 5 and 3 x 3, are odd.
    sizes = dict(input_shape=(80, 80, 3), stem_channels=8, channels=(8,) * 5, widths=(8,) * 3, depths=(1, 1, 1))
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


def test_mobile_former_gives_the_same_on_both_backends(tmp_path):
    model = tiny(groups=4)
    model.save(tmp_path / "model.keras")
    keras_vit.fuse(model).save(tmp_path / "folded.keras")
    script = (
        "import sys, keras, numpy, keras_vit; from tests.reference import images;"
        "assert keras.backend.backend() == 'jax';"
        "outputs = [keras.models.load_model(path)(images(32)) for path in sys.argv[2:]];"
        "numpy.savez(sys.argv[1], *outputs)"
    )
    run("-c", script, *(str(tmp_path / name) for name in ("jax.npz", "model.keras", "folded.keras")))
    for outputs in np.load(tmp_path / "jax.npz").values():
        assert relative_error(outputs, np.asarray(model(images(32)))) < 1e-5


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
