"""A user's path in an empty folder: from a folder of phone pictures to a file for the device.

The classes differ only in which side of a picture is bright, and most pictures lie on their side in their files, as
phones write them. A step that opens pictures in another way than the others changes the accuracy.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_vit.models.registry import find_weights
from tests.reference import timm_weights

CLASSES = ("ground", "sky", "wall")  # Bright below, above, and at one side: mirroring a picture keeps its class.
_ORIENTATION = 0x0112
_TURNS = {1: 0, 6: 1, 3: 2, 8: 3}  # By EXIF orientation: quarter turns to the left from the picture to its file.

SCRIPT = """
import contextlib, io, json
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_vit
from keras_vit import edge, training
from keras_vit.cli.main import main


def keras_vit_command(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(arguments)) == 0
    return out.getvalue()


model = keras.models.load_model("run/best.keras")
names = keras_vit.class_names(model)
paths = sorted(Path("others").rglob("*.*"))
labels = np.array([names.index(path.parent.name) for path in paths])
images = np.stack([keras_vit.preprocess_input(Image.open(path), model) for path in paths])
scores = model.predict(images, verbose=0)

others = training.evaluation_data("others", class_names=names, image_size=64)
seen = training.image_folder("pictures", image_size=64, batch_size=12, augmentation=None)
int8 = edge.quantize_aware(model, calibration_data=seen.validation)
int8.save("int8.keras")
edge.export(model, "float.tflite")
edge.export(int8, "int8.tflite")
proofs = {name: edge.verify(model, f"{name}.tflite", images, labels=labels) for name in ("float", "int8")}
command = json.loads(keras_vit_command("evaluate", "run/best.keras", "--data", "others", "--json"))
keras_vit_command("inspect", "run/best.keras", "--image", str(paths[0]))
page = Path("inspect.html").read_text()
json.dump(
    {
        "accuracy": {
            "predict": float((scores.argmax(axis=1) == labels).mean()),
            "keras-vit evaluate": command["top1"],
            "evaluate int8": training.evaluate(int8, others).top1,
            **{f"verify {name}": proof.top1 for name, proof in proofs.items()},
        },
        "max_abs_error": proofs["float"].max_abs_error,
        "images": command["images"],
        "names": names,
        "inspected": f"{100 * scores[0].max():.1f} %</strong><span>{names[scores[0].argmax()]}<" in page,
    },
    open("results.json", "w"),
)
"""


def picture(name: str, random: np.random.Generator) -> np.ndarray:
    """Return a picture of a class as people see it, in colors that say nothing about the class."""
    height, width = random.integers(72, 112, 2)
    rows, columns = np.mgrid[:height, :width] / np.reshape((height, width), (2, 1, 1))
    side = {"ground": rows, "sky": 1 - rows, "wall": random.choice([columns, 1 - columns])}[name]
    bright = (side > random.uniform(0.4, 0.6))[..., None]
    colors = np.where(bright, random.uniform(150, 250, 3), random.uniform(10, 110, 3))
    return np.clip(colors + random.normal(0, 10, (height, width, 3)), 0, 255).astype("uint8")


def write_pictures(folder: Path, count: int, seed: int) -> None:
    """Write pictures of each class: JPEG files of a phone, one PNG file with a transparent part and one gray file."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = picture(name, random)
            if index == 0:  # The bright part is transparent, and black behind that.
                bright = pixels.mean(axis=-1) > 128
                pixels = np.dstack([np.where(bright[..., None], 0, pixels), np.where(bright, 0, 255)]).astype("uint8")
                Image.fromarray(pixels).save(folder / name / "cut_out.png")
            elif index == 1:
                Image.fromarray(pixels).convert("L").save(folder / name / "gray.jpg")
            else:
                tags, orientation = Image.Exif(), list(_TURNS)[index % 4]
                tags[_ORIENTATION] = orientation
                stored = np.ascontiguousarray(np.rot90(pixels, _TURNS[orientation]))
                Image.fromarray(stored).save(folder / name / f"IMG_{index:04}.JPG", "JPEG", exif=tags)


@pytest.fixture
def user(tmp_path):
    """Return a function that runs a program of this environment in an empty folder which must not warn."""
    from safetensors.numpy import save_file

    record = find_weights("mobilevit_xxs", "cvnets_in1k")
    place = tmp_path / "cache" / record.repository / record.filename
    place.parent.mkdir(parents=True)
    save_file(timm_weights("mobilevit_xxs"), place)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KERAS_VIT_CACHE": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "-1",
    }

    def run(program, *arguments):
        command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
        result = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert result.returncode == 0 and "UserWarning" not in result.stderr, result.stderr

    run.home = home
    return run


@pytest.mark.slow
def test_from_a_folder_of_phone_pictures_to_a_file_for_the_device(user):
    write_pictures(user.home / "pictures", count=24, seed=0)
    write_pictures(user.home / "others", count=12, seed=1)
    start = ["--model", "mobilevit_xxs", "--weights", "cvnets_in1k", "--image-size", 64]
    settings = ["--epochs", 10, "--batch-size", 12, "--learning-rate", 2e-3, "--set", "augmentation=None"]
    user("keras-vit", "train", *start, *settings, "--data", "pictures", "--run-dir", "run")
    user("python", "-c", SCRIPT)
    results = json.loads((user.home / "results.json").read_text())
    assert results["names"] == list(CLASSES) and results["images"] == 36
    accuracies = results["accuracy"]
    assert accuracies["predict"] > 0.9, accuracies
    assert max(accuracies.values()) - min(accuracies.values()) < 1.5 / 36, accuracies
    assert results["max_abs_error"] < 1e-4 and results["inspected"]
