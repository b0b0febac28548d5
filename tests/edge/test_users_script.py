"""What a user's script meets: lazy imports, saved models that load, and functions that print nothing of their own.

One script does all of it in a process of its own, because importing TensorFlow takes seconds.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock

from keras_vit import edge

IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")

SCRIPT = """
import json, logging, os, sys, threading, time, warnings

environment = dict(os.environ)
import keras_vit  # Registers the layers of quantized models, which are in keras_vit.edge.
import keras
import numpy as np
import tensorflow as tf

logging.basicConfig(format="LOG %(message)s")
images = np.load("images.npy")
# Keras makes a new function for each call of a grouped convolution.
grouped = keras.layers.Conv2D(4, 3, groups=2)
small = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1), grouped, keras.layers.Flatten()])
quantized = keras.models.load_model("quantized.keras")
np.save("loaded.npy", quantized(images))

from keras_vit import edge

stopped = threading.Event()


def print_all_the_time():
    number = 0
    while not stopped.is_set():
        # Each line in one piece: the parts of a `print` are written one by one.
        sys.stderr.write(f"tick {number}\\n")
        sys.stdout.write(f"tock {number}\\n")
        number += 1
        time.sleep(0.002)
    json.dump(number, open("number.json", "w"))


thread = threading.Thread(target=print_all_the_time)
sys.stdout.flush()
print("START", file=sys.stderr)
thread.start()
warnings.warn("careful")
for precision in (None, "dynamic_int8"):
    edge.export(small, f"{precision}.tflite", precision)
# TensorFlow would warn of retracing in the fifth repetition.
for _ in range(6):
    edge.quantize_aware(small, calibration_data=images, batch_size=5)
logging.getLogger("some.library").warning("a library warns")
edge.export(quantized, "quantized.tflite")
edge.verify(quantized, "quantized.tflite", images, batch_size=5)
edge.verify(small, "None.tflite", images, batch_size=2)
edge.verify("None.tflite", "dynamic_int8.tflite", images)
edge.audit("quantized.tflite")
edge.benchmark(["None.tflite", "quantized.tflite"], runs=2)
stopped.set()
thread.join()
print("END", file=sys.stderr)
legacy = "TF_USE_LEGACY_KERAS"
json.dump(
    {"keras": tf.keras.version(), "unchanged": os.environ.get(legacy) == environment.get(legacy)},
    open("facts.json", "w"),
)
"""


@pytest.fixture(scope="module")
def run(shared_folder):
    """The folder in which the script ran, and what it printed to standard output and standard error."""
    folder = shared_folder / "script"
    with FileLock(f"{folder}.lock"):
        if not (folder / "stderr").exists():
            folder.mkdir()
            run_script(folder)
    return folder, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def run_script(folder):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    # More than a hundred tensors, since litert-quantizer draws no progress bar for fewer.
    for _ in range(30):
        x = keras.layers.Dense(8, activation="gelu")(x)
    model = keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    quantized.save(folder / "quantized.keras")
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "expected.npy", np.asarray(quantized(IMAGES)))
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "stdout").write_text(result.stdout)
    (folder / "stderr").write_text(result.stderr)


@pytest.mark.long
def test_only_the_script_and_its_warnings_are_printed(run):
    folder, stdout, stderr = run
    count = json.loads((folder / "number.json").read_text())
    assert count > 100
    assert stdout.splitlines() == [f"tock {number}" for number in range(count)]
    lines = stderr[stderr.index("START\n") : stderr.index("END\n")].splitlines()[1:]
    # Each line at most once. Two that are printed while a function returns may change places. TensorFlow Lite writes a
    # log line in three pieces, and in rare cases a line of another thread comes between two of them and is part of it.
    ticks = [re.search(r"tick \d+$", line).group() for line in lines if "tick" in line]
    expected = {f"tick {number}" for number in range(count)}
    assert len(set(ticks)) == len(ticks) and set(ticks) <= expected and len(expected) - len(ticks) <= 3
    others = [line for line in lines if "tick" not in line]
    assert len(others) == 2 and others[0].endswith("UserWarning: careful"), others
    assert others[1] == "LOG a library warns"


@pytest.mark.long
def test_a_quantized_model_loads_and_is_the_same(run):
    folder, _, _ = run
    np.testing.assert_array_equal(np.load(folder / "loaded.npy"), np.load(folder / "expected.npy"))


@pytest.mark.long
def test_the_process_stays_on_keras_3(run):
    facts = json.loads((run[0] / "facts.json").read_text())
    assert facts["keras"].startswith("3.") and facts["unchanged"]


@pytest.mark.long
def test_files_are_examined_without_keras_and_tensorflow(run):
    script = """
import sys
import keras_vit
before = set(sys.modules)
from keras_vit import edge
import numpy as np
edge.audit("quantized.tflite")
edge.benchmark("quantized.tflite", runs=1)
edge.verify("None.tflite", "dynamic_int8.tflite", np.load("images.npy"))
imported = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(imported & {"keras", "tensorflow", "litert_quantizer"}))
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=run[0], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "\n"), result.stderr[-2000:]


def test_the_table_of_lazy_names_is_what_type_checkers_see():
    source = Path(edge.__file__).read_text()
    block = source[source.index("if TYPE_CHECKING") : source.index("_MODULES")]
    seen = {module: tuple(names.split(", ")) for module, names in re.findall(r"from (\S+) import (.+)", block)}
    assert seen == edge._MODULES
    assert sorted(edge.__all__) == sorted(name for names in seen.values() for name in names)
    for name in edge.__all__:
        assert name in dir(edge) and (name.isupper() or getattr(edge, name).__module__ in seen)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"'keras_vit\.edge' has no attribute 'exports'"):
        edge.exports  # noqa: B018
