"""The commands of `keras-vit`: their results, and one line for each error."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.cli.main import main
from tests.training.pictures import write_folder

IMAGES = np.random.default_rng(0).normal(size=(6, 16, 16, 1)).astype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras_vit.ViT(input_shape=(16, 16, 1), patch_size=4, width=24, depth=1, num_heads=3, classes=5).save("model.keras")
    np.save("images.npy", IMAGES)
    np.save("labels.npy", np.arange(6) % 5)
    return tmp_path


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list(capsys):
    assert run(capsys, "list", "vit_b*")[1].split() == ["vit_b16", "vit_b28", "vit_b32", "vit_b8"]
    assert json.loads(run(capsys, "list", "vit_b*", "--json")[1]) == ["vit_b16", "vit_b28", "vit_b32", "vit_b8"]


def test_info(capsys):
    assert "86,567,656" in run(capsys, "info", "vit_b16")[1]
    facts = json.loads(run(capsys, "info", "vit_b16", "--json")[1])
    assert facts["parameters"] == 86_567_656 and facts["function"] == "ViT_B16"


def test_a_terminal_shows_what_takes_long_until_it_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(capsys, "info", "vit_ti16")[1].startswith("\rBuilding vit_ti16 ...\x1b[K\r\x1b[Kname ")
    assert json.loads(run(capsys, "info", "vit_ti16", "--json")[1])["name"] == "vit_ti16"


def test_from_a_model_to_a_measured_file(folder, capsys):
    assert run(capsys, "export", "model.keras", "float32.tflite", "--verify", "images.npy")[0] == 0
    assert run(capsys, "quantize", "model.keras", "int8.keras", "--calibration", "images.npy")[0] == 0
    code, out, _ = run(capsys, "export", "int8.keras", "int8.tflite")  # Its precision is that of the model.
    assert code == 0 and out.startswith("int8.tflite: 0.")
    files = ("float32.tflite", "int8.tflite")
    result = json.loads(
        run(capsys, "verify", "int8.keras", files[1], "--images", "images.npy", "--labels", "labels.npy", "--json")[1]
    )
    assert result["images"] == 6 and 0 <= result["top1"] <= 1
    assert result["snr_db"] is None or result["snr_db"] > 25  # None stands for equal outputs.
    assert json.loads(run(capsys, "audit", files[1], "--json")[1])["partitions"] == 1
    code, out, _ = run(capsys, "benchmark", *files, "--runs", 3, "--json")
    assert [len(row["samples_ms"]) for row in json.loads(out)["benchmarks"]] == [3, 3]


def test_layers_are_kept_in_float_for_the_accuracy(folder, capsys):
    command = ["quantize", "model.keras", "int8.keras", "--calibration", "images.npy", "--scheme", "full_int8"]
    code, out, err = run(capsys, *command, "--keep-accuracy", 100, "--labels", "labels.npy")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["scheme", "top-1", "p50", "ms"] and lines[3].startswith("full_int8")
    assert lines[4] == "6 images, at most 100 points lost" and lines[5].startswith("int8.keras: train it")
    code, _, err = run(capsys, *command, "--labels", "labels.npy")
    assert code == 1 and "labels are for keep_accuracy" in err
    code, _, err = run(capsys, *command[:-1], "int3")
    assert code == 1 and "'full_int8'" in err and "received 'int3'" in err


def test_pictures_are_prepared_as_the_model_takes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    model = keras_vit.DeiT(input_shape=(16, 16, 3), patch_size=4, width=24, depth=1, num_heads=3, classes=5)
    model.save("model.keras")
    paths = write_folder(Path("pictures"), classes=2)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    np.save("prepared.npy", keras_vit.preprocess_input(sorted(map(str, paths)), model))
    results = []
    for images in ("pictures", "prepared.npy"):
        assert run(capsys, "quantize", "model.keras", "int8.keras", "--calibration", images)[0] == 0
        assert run(
            capsys, "export", "model.keras", "int8.tflite", "--precision", "hybrid_int8", "--calibration", images
        )
        code, out, err = run(capsys, "verify", "int8.keras", "int8.tflite", "--images", images, "--json")
        assert code == 0, err
        results.append((json.loads(out), Path("int8.tflite").read_bytes()))
    assert results[0] == results[1] and results[0][0]["images"] == 12 and results[0][0]["snr_db"] > 25
    one = json.loads(run(capsys, "verify", "int8.keras", "int8.tflite", "--images", paths[0], "--json")[1])
    assert one["images"] == 1


def test_training_and_resuming(folder, capsys):
    command = ["train", "--model", "vit_xs16", "--set", "model_settings={'depth': 1}", "--image-size", 16]
    command += ["--epochs", 1, "--batch-size", 600, "--run-dir", "run"]
    code, out, _ = run(capsys, *command)
    assert code == 0 and "on the validation images" in out
    code, _, err = run(capsys, *command)
    assert code == 1 and "not empty; pass resume=True" in err
    assert run(capsys, *command, "--resume")[0] == 0


def test_training_on_records_of_a_folder(folder, capsys):
    write_folder(Path("pictures"), classes=2)
    for name in ("train", "validation"):
        code, out, _ = run(capsys, "records", "pictures", "shards", "--name", name, "--shards", 2)
        assert code == 0 and "12/12" in out and "tfrecords:shards" in out
    tiny = "model_settings=" + str({"patch_size": 8, "width": 16, "depth": 1, "num_heads": 1})
    command = ["train", "--recipe", "digits_vit", "--data", "tfrecords:shards", "--set", tiny, "--set", "channels=3"]
    code, out, err = run(capsys, *command, "--epochs", 1, "--warmup-epochs", 0, "--batch-size", 4, "--run-dir", "run")
    assert code == 0, err
    assert "step 3/3" in out
    code, _, err = run(capsys, "train", "--recipe", "digits_vit", "--data", "nowhere", "--run-dir", "other")
    assert code == 1 and "no folder 'nowhere'" in err
    (folder / "empty").mkdir()
    code, _, err = run(capsys, "train", "--recipe", "digits_vit", "--data", "empty", "--run-dir", "other")
    assert code == 1 and "has no subfolders" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["info", "vit_b15"], "no model named 'vit_b15'. The nearest are vit_b16"),
        (["export", "none.keras", "out.tflite"], "no model file 'none.keras'"),
        (["export", "images.npy", "out.tflite"], "no model named 'images.npy'"),
        (["export", "broken.keras", "out.tflite"], "damaged or not a Keras model"),
        (["export", "model.keras", "out.bin"], "ends in .tflite; received 'out.bin'"),
        (["export", "model.keras", "out.tflite", "--precision", "int4"], "received 'int4'"),
        (["quantize", "model.keras", "out.keras", "--calibration", "archive.npy"], "is an archive of several arrays"),
        (["quantize", "model.keras", "out.keras", "--calibration", "broken.npy"], "is not a .npy file"),
        (["quantize", "model.keras", "out.keras", "--calibration", "broken.tflite"], "is empty or not a picture"),
        (["quantize", "model.keras", "out.keras", "--calibration", "none.jpg"], "no picture 'none.jpg'"),
        (["quantize", "model.keras", "out.keras", "--calibration", "."], "no pictures in '.'"),
        (["quantize", "model.keras", "out.keras", "--calibration", "pixels.npy"], "from 0 to 255, but the model 'vit'"),
        (["verify", "model.keras", "x.tflite", "--images", "none.jpg"], "no picture 'none.jpg'"),
        (["verify", "x.tflite", "x.tflite", "--images", "photo.jpg"], "x.tflite cannot be opened"),
        (["audit", "broken.tflite"], "broken.tflite"),
        (["benchmark", "none.tflite"], "none.tflite"),
        (["benchmark", "broken.tflite", "--device", "phone"], "received 'phone'"),
    ],
    ids=lambda value: value[0] + " " + value[1] if isinstance(value, list) else "",
)
def test_one_line_for_what_goes_wrong(arguments, sentence, folder, capsys):
    (folder / "broken.keras").write_bytes(b"PK no")
    (folder / "broken.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3 no")
    (folder / "broken.npy").write_bytes(b"no array")
    with open(folder / "archive.npy", "wb") as file:
        np.savez(file, IMAGES, IMAGES)
    np.save("pixels.npy", np.arange(256, dtype="uint8").reshape(1, 16, 16, 1))
    before = {path.name for path in folder.iterdir()}
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.startswith("keras-vit: ") and sentence in err and "Traceback" not in err
    assert {path.name for path in folder.iterdir()} == before


def test_a_demo_replaces_nothing_but_a_demo(folder, capsys):
    code, _, err = run(capsys, "demo", "--output", ".")
    assert code == 1 and "is not empty and holds no demo" in err
    assert (folder / "model.keras").is_file()


def test_a_saved_model_loads_after_importing_keras_vit_alone(folder):
    script = "import keras_vit, keras; print(keras.models.load_model('model.keras').count_params())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == str(keras.models.load_model("model.keras").count_params()), result.stderr
