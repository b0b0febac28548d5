"""An old runtime, as boards have it that cannot have a newer one."""

import shutil
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def old_python(tmp_path_factory):
    """The path of a Python with tflite-runtime 2.14.0, which needs CPython 3.9 to 3.11."""
    here = sys.executable if sys.version_info[:2] <= (3, 11) else None
    candidates = [here, *map(shutil.which, ("python3.11", "python3.10", "python3.9"))]
    for python in filter(None, candidates):
        folder = tmp_path_factory.mktemp("old_runtime")
        if subprocess.run([python, "-m", "venv", str(folder)], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("tflite-runtime 2.14.0 needs CPython 3.9 to 3.11, and none that can create environments was found.")
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "tflite-runtime==2.14.0", "numpy<2"], check=True)
    return python
