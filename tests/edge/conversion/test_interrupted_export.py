"""A full disk, or the end of the process, during an export leaves the file that existed before, and nothing else."""

import errno
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import importlib, os, resource, signal, sys, time

import keras
import keras_vit
from keras_vit import edge
from keras_vit.utils import files

kind = sys.argv[1]
module = importlib.import_module(
    {"tflite": "keras_vit.edge.conversion.export", "onnx": "keras_vit.edge.onnx.conversion"}[kind]
)
model = keras_vit.ViT(input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=1, classes=3)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)


def replacing_on_a_full_disk(path):
    # Like a full disk, a limit on the size of files makes a write fail midway.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    return files.replacing_even_if_killed(path)


module.replacing_even_if_killed = replacing_on_a_full_disk
try:
    edge.export(model, f"model.{kind}")
except OSError as error:
    print("refused", error.errno, *(name for name in os.listdir() if name.endswith(kind)), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
module.replacing_even_if_killed = files.replacing_even_if_killed


def stop_before_the_file_is_moved(descriptor):
    print("written", flush=True)
    time.sleep(600)


files.os.fsync = stop_before_the_file_is_moved
edge.export(model, f"model.{kind}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def processes(folder):
    """A process for each format that exports over a file that exists."""
    started = {}
    for kind in ("tflite", "onnx"):
        (folder / f"model.{kind}").write_bytes(b"before")
        started[kind] = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, kind],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    yield started
    for process in started.values():
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_the_file_from_before_is_left(kind, processes, folder):
    process, file = processes[kind], folder / f"model.{kind}"
    assert process.stdout.readline() == f"refused {errno.EFBIG} model.{kind}\n"
    assert file.read_bytes() == b"before"
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert file.read_bytes() == b"before"
    assert {path.name for path in folder.iterdir()} == {"model.tflite", "model.onnx"}
