"""The files of a model in its published size: what a device needs of them, and that they give the model's outputs."""

from pathlib import Path

import numpy as np

import keras_vit
from keras_vit import edge
from tests.reference import timm_file


def check_files(name: str, fixture: str, folder: Path) -> None:
    """Export a model with the weights of a fixture in float and in int8, and check both files.

    Args:
        name: Registry name of the model.
        fixture: Name of the fixture.
        folder: Folder for the files.
    """
    model = keras_vit.create_model(name, classifier_activation=None)
    keras_vit.load_weights(model, timm_file(fixture, folder))
    images = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype("float32")
    _check_audit(file := edge.export(model, folder / "float32.tflite"))
    assert edge.verify(model, file, images[:2]).max_relative_error < 1e-4
    quantized = edge.quantize_aware(model, calibration_data=images)
    _check_audit(file := edge.export(quantized, folder / "int8.tflite"))
    assert edge.verify(quantized, file, images[:4]).snr_db > 28


def _check_audit(file):
    audit = edge.audit(file)
    assert audit.partitions <= 2 and audit.findings == [], audit
