"""Files run on tflite-runtime 2.14, the last release of the runtime that old boards have."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from keras_vit.edge import runner
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
        pytest.skip(
            "tflite-runtime 2.14.0 needs CPython 3.9 to 3.11, and there is none that makes environments."
        )
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "tflite-runtime==2.14.0", "numpy<2"]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(
            f"pip cannot install tflite-runtime 2.14.0 here: {installed.stderr.strip().splitlines()[-1]}"
        )
    return python


@pytest.fixture(scope="session")
def exported_files(tflite_files):
    """Paths of files that old boards must run, by precision."""
    return {"float32": tflite_files["float32"]}


def _outputs(file, images, command=None):
    with Interpreter(file, command=command) as interpreter:
        interpreter.allocate()
        return interpreter.runtime, interpreter.run(images)


def test_old_and_new_runtimes_agree(old_python, exported_files, images):
    for precision, file in exported_files.items():
        runtime, old = _outputs(file, images, [old_python, runner.__file__])
        assert runtime == "tflite-runtime 2.14.0"
        _, new = _outputs(file, images)
        for a, b in zip(old, new, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=precision)


def test_a_truncated_file_is_a_sentence_where_the_runtime_checks_nothing(old_python, broken_files):
    with pytest.raises(ValueError, match="truncated"):
        Interpreter(broken_files["truncated"], command=[old_python, runner.__file__])
