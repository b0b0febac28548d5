"""Models that many tests use, and small .tflite files of every kind that the tools of keras_vit.edge work with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from keras_vit.utils.files import replacing


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "edge"
    folder.mkdir(exist_ok=True)
    return folder


class Files:
    """Paths of files by name. Each file is made when it is first used, once for all workers."""

    def __init__(self, folder: Path, makers: dict[str, Callable[[], bytes]]):
        self._folder, self._makers = folder, makers

    def __getitem__(self, name: str) -> str:
        path = self._folder / f"{name}.tflite"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                with replacing(path) as partial:
                    partial.write_bytes(self._makers[name]())
        return str(path)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((12, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def model():
    """A small classifier of 8x8 images."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", bias_initializer="normal")(inputs)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax", bias_initializer="normal")(x))


@pytest.fixture(scope="session")
def many_outputs_model():
    """A model with twelve outputs of one shape, so that only their order distinguishes them."""
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(4)(x) for _ in range(12)])


@pytest.fixture(scope="session")
def vit():
    """A small ViT. Tests that change it restore it."""
    from tests.edge.models import vit

    return vit()


@pytest.fixture(scope="session")
def quantized_vit(vit):
    """The quantized form of `vit`. Tests that change it restore it."""
    from keras_vit import edge
    from tests.edge.models import IMAGES

    return edge.quantize_aware(vit, calibration_data=IMAGES)


@pytest.fixture(scope="session")
def vit_file(shared_folder, quantized_vit) -> str:
    """The file of `quantized_vit` in the default precision."""
    from keras_vit import edge

    def export() -> bytes:
        return Path(edge.export(quantized_vit, shared_folder / "export.tflite")).read_bytes()

    return Files(shared_folder, {"quantized_vit": export})["quantized_vit"]


def _converted(function: Callable, *, flex: bool = False, samples: np.ndarray | None = None) -> bytes:
    """Return a file of a function of a tensor (1, 8, 16), in int8 inside if there are samples to calibrate on."""
    import tensorflow as tf

    concrete = tf.function(function).get_concrete_function(tf.TensorSpec((1, 8, 16), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


@pytest.fixture(scope="session")
def tflite_files(shared_folder, tmp_path_factory, model, many_outputs_model, images) -> Files:
    """Files by what is special about them."""
    import keras
    import tensorflow as tf

    generator = np.random.default_rng(2)
    weights = tf.constant(generator.standard_normal((16, 16)), tf.float32)
    samples = generator.standard_normal((4, 8, 16)).astype(np.float32)
    large = tf.constant(generator.standard_normal((16, 2**17)), tf.float32)

    def float16(converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    def int8(converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8

    def from_keras(keras_model, batch_size: int | None = 1, configure=lambda converter: None) -> bytes:
        archive = keras.export.ExportArchive()
        archive.track(keras_model)
        signature = [tf.TensorSpec((batch_size, 8, 8, 3), tf.float32)]
        archive.add_endpoint("serve", lambda x: keras_model(x, training=False), input_signature=signature)
        folder = str(tmp_path_factory.mktemp("saved_model"))
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        configure(converter)
        return converter.convert()

    def matmul(x):
        return tf.matmul(tf.nn.relu(x @ weights), tf.nn.relu(x @ weights + 1), transpose_b=True)

    def rank_5(x):
        return tf.transpose(tf.reshape(x, (1, 2, 4, 4, 4)), (0, 1, 3, 2, 4)) * weights[0, :4]

    return Files(
        shared_folder,
        {
            "float32": lambda: from_keras(model),
            "float16": lambda: from_keras(model, configure=float16),
            "int8": lambda: from_keras(model, configure=int8),
            "batch_of_4": lambda: from_keras(model, batch_size=4),
            "dynamic_batch": lambda: from_keras(model, batch_size=None),
            "many_outputs": lambda: from_keras(many_outputs_model),
            "int8_softmax": lambda: _converted(lambda x: tf.nn.softmax(x @ weights) @ weights, samples=samples),
            "int8_matmul": lambda: _converted(matmul, samples=samples),
            "slice_drops_axis": lambda: _converted(lambda x: tf.nn.relu(x @ weights)[:, 0] @ weights),
            "six_concatenated": lambda: _converted(
                lambda x: tf.concat([x @ weights, x + 1, x * 2, x * 3, x * 4, x * 5], -1)
            ),
            "gather": lambda: _converted(lambda x: tf.gather(x @ weights, [1, 3, 0], axis=1) @ weights),
            "where": lambda: _converted(lambda x: tf.gather(x[0], tf.where(x[0, :, 0] > 0)[:, 0]) + 1.0),
            "rank_5": lambda: _converted(rank_5),
            "flex": lambda: _converted(lambda x: tf.math.erf(x @ weights) @ weights, flex=True),
            "8_megabytes": lambda: _converted(lambda x: x @ large),
        },
    )


@pytest.fixture
def broken_files(tmp_path, tflite_files) -> dict[str, str]:
    """Paths of files that are not usable .tflite files, by what is wrong."""
    whole = Path(tflite_files["float32"]).read_bytes()
    contents = {
        "empty": b"",
        "other": b"PK\x03\x04 this is a zip archive",
        "truncated": whole[: len(whole) // 2],
        "identifier_only": whole[:8],
        "last_byte_missing": whole[:-1],
    }
    paths = {"missing": str(tmp_path / "missing.tflite"), "folder": str(tmp_path)}
    for name, content in contents.items():
        paths[name] = str(tmp_path / f"{name}.tflite")
        Path(paths[name]).write_bytes(content)
    return paths
