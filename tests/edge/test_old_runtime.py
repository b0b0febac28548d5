"""Files run on tflite-runtime 2.14, the last release of the runtime that old boards have."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.edge import export, runner
from keras_vit.edge.interpreter import Interpreter


@pytest.fixture(scope="session")
def old_python(tmp_path_factory):
    """A Python that has tflite-runtime 2.14.0, which needs CPython 3.9 to 3.11."""
    here = sys.executable if sys.version_info[:2] <= (3, 11) else None
    candidates = [here, *map(shutil.which, ("python3.11", "python3.10", "python3.9"))]
    for python in filter(None, candidates):
        folder = tmp_path_factory.mktemp("old_runtime")
        if subprocess.run([python, "-m", "venv", str(folder)], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("tflite-runtime 2.14.0 needs CPython 3.9 to 3.11, and there is none that makes environments.")
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "tflite-runtime==2.14.0", "numpy<2"], check=True)
    return python


@pytest.fixture(scope="session")
def exported_files(tmp_path_factory, images):
    """A small ViT in the precisions that old boards must run: path and how near the runtimes are, by precision."""
    folder = tmp_path_factory.mktemp("exported")
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(
        input_shape=(8, 8, 3), patch_size=4, width=24, depth=2, num_heads=3, classes=5, classifier_activation=None
    )
    float32 = export(model, folder / "float32.tflite")
    hybrid = export(model, folder / "hybrid.tflite", "hybrid_int8", calibration_data=images)
    # In int8, arithmetic that differs in the last bit may move a number by a step of its grid.
    return {"float32": (float32, 1e-5), "hybrid_int8": (hybrid, 3 / 127)}


def _outputs(file, images, command=None):
    with Interpreter(file, command=command) as interpreter:
        interpreter.allocate()
        return interpreter.runtime, interpreter.run(images)


def test_old_and_new_runtimes_agree(old_python, exported_files, images):
    for precision, (file, tolerance) in exported_files.items():
        runtime, old = _outputs(file, images, [old_python, runner.__file__])
        assert runtime == "tflite-runtime 2.14.0"
        _, new = _outputs(file, images)
        for a, b in zip(old, new, strict=True):
            assert np.max(np.abs(a - b)) < tolerance * np.max(np.abs(b)), precision


def test_a_truncated_file_is_a_sentence_where_the_runtime_checks_nothing(old_python, broken_files):
    with pytest.raises(ValueError, match="truncated"):
        Interpreter(broken_files["truncated"], command=[old_python, runner.__file__])
