import json

import pytest

import keras_vit
from keras_vit.edge.devices import suite
from keras_vit.edge.devices.suite import SUITES, run_suite


def test_the_models_of_the_suites_exist():
    assert set(SUITES["mobile"]) <= set(keras_vit.list_models())


def test_a_suite_continues_where_it_was_interrupted(tmp_path, monkeypatch):
    built = []

    def small(name):
        built.append(name)
        if len(built) == 2:
            raise KeyboardInterrupt
        return keras_vit.ViT(
            input_shape=(16, 16, 3), patch_size=8, width=24, depth=1, num_heads=3, classes=5, classifier_activation=None
        )

    monkeypatch.setattr(keras_vit, "create_model", small)
    precisions = ("float32", "dynamic_int8", "float8")
    with pytest.raises(KeyboardInterrupt):
        run_suite(["one", "two"], tmp_path, precisions=precisions, runs=5)
    kept = json.loads((tmp_path / "results.json").read_text())
    result = run_suite(["one", "two"], tmp_path, precisions=precisions, runs=5)
    assert built == ["one", "two", "two"]
    names = [file.file.rpartition("/")[2] for file in result.benchmarks]
    assert names == ["one.float32.tflite", "one.dynamic_int8.tflite", "two.float32.tflite", "two.dynamic_int8.tflite"]
    assert result.benchmarks[0].samples_ms == next(iter(kept.values()))["benchmarks"][0]["samples_ms"]
    assert result.snr_db[result.benchmarks[0].file] > 90 > result.snr_db[result.benchmarks[1].file] > 15
    assert list(result.errors) == ["one.float8.tflite", "two.float8.tflite"] and "float8" in str(result)


def test_an_unknown_suite_is_refused(tmp_path):
    with pytest.raises(ValueError, match="The suites are 'mobile'; received 'desktop'"):
        run_suite("desktop", tmp_path)
    assert suite.PRECISIONS[0] == "float32"
