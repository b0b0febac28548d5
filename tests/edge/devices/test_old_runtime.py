"""Files run on tflite-runtime 2.14, the last release of the runtime of old boards."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.edge import export
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.ssh import board_files


@pytest.fixture(scope="session")
def old_runner(old_python, tmp_path_factory):
    """The command that starts the runner as on a board, where there is nothing else of keras_vit."""
    folder = tmp_path_factory.mktemp("board")
    for name, content in board_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return ["env", "-C", str(folder), old_python, "-m", "keras_vit.edge.devices.runner"]


@pytest.fixture(scope="session")
def small_vit():
    keras.utils.set_random_seed(0)
    return keras_vit.ViT(
        input_shape=(8, 8, 3), patch_size=4, width=24, depth=2, num_heads=3, classes=5, classifier_activation=None
    )


def _outputs(file, images, command=None):
    with Interpreter(file, command=command) as interpreter:
        interpreter.allocate()
        return interpreter.runtime, interpreter.run(images)


def _noise(outputs, expected):
    return np.sqrt(np.mean((outputs - expected) ** 2) / np.mean(expected**2))


def test_a_float32_file_gives_the_same_outputs_on_the_old_runtime(old_runner, small_vit, images, tmp_path):
    file = export(small_vit, tmp_path / "float32.tflite")
    runtime, (old,) = _outputs(file, images, old_runner)
    assert runtime == "tflite-runtime 2.14.0"
    np.testing.assert_allclose(old, small_vit(images), atol=1e-5)


def test_a_hybrid_int8_file_is_as_close_to_the_float_model_on_the_old_runtime(old_runner, small_vit, images, tmp_path):
    # The old runtime rounds the results of int8 products differently, so the two differ by steps of the grid.
    file = export(small_vit, tmp_path / "hybrid.tflite", "hybrid_int8", calibration_data=images)
    runtime, (old,) = _outputs(file, images, old_runner)
    assert runtime == "tflite-runtime 2.14.0"
    _, (new,) = _outputs(file, images)
    expected = np.asarray(small_vit(images))
    assert _noise(old, expected) < 1.25 * _noise(new, expected) < 0.06
    assert np.mean(old.argmax(1) == expected.argmax(1)) > 0.9


def test_a_truncated_file_is_refused_where_the_runtime_checks_nothing(old_runner, broken_files):
    with pytest.raises(ValueError, match="truncated"):
        Interpreter(broken_files["truncated"], command=old_runner)
