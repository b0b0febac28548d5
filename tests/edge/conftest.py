"""Small .tflite files of every kind that the tools of keras_vit.edge meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


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
    """Twelve outputs of one shape, so that only their order tells them apart."""
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(4)(x) for _ in range(12)])


def _saved_model(model, folder: Path, batch: int | None = 1) -> str:
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((batch, 8, 8, 3), tf.float32)]
    archive.add_endpoint("serve", lambda x: model(x, training=False), input_signature=signature)
    archive.write_out(str(folder), verbose=False)
    return str(folder)


def _converted(function: Callable, *, flex: bool = False, samples: np.ndarray | None = None) -> bytes:
    """A file of a function of (1, 8, 16); full int8 inside when it is given samples to calibrate on."""
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
def tflite_files(tmp_path_factory, model, many_outputs_model, images) -> dict[str, str]:
    """Paths by what is special about each file."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tflite")
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

    def from_keras(name: str, keras_model, batch: int | None = 1, configure=lambda converter: None) -> bytes:
        saved = _saved_model(keras_model, folder / f"{name}_saved", batch)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        configure(converter)
        return converter.convert()

    contents = {
        "float32": from_keras("float32", model),
        "float16": from_keras("float16", model, configure=float16),
        "int8": from_keras("int8", model, configure=int8),
        "batch_of_4": from_keras("batch_of_4", model, batch=4),
        "dynamic_batch": from_keras("dynamic_batch", model, batch=None),
        "many_outputs": from_keras("many_outputs", many_outputs_model),
        "int8_softmax": _converted(lambda x: tf.nn.softmax(x @ weights) @ weights, samples=samples),
        "int8_matmul": _converted(
            lambda x: tf.matmul(tf.nn.relu(x @ weights), tf.nn.relu(x @ weights + 1), transpose_b=True),
            samples=samples,
        ),
        "slice_drops_axis": _converted(lambda x: tf.nn.relu(x @ weights)[:, 0] @ weights),
        "six_concatenated": _converted(lambda x: tf.concat([x @ weights, x + 1, x * 2, x * 3, x * 4, x * 5], -1)),
        "gather": _converted(lambda x: tf.gather(x @ weights, [1, 3, 0], axis=1) @ weights),
        "where": _converted(lambda x: tf.gather(x[0], tf.where(x[0, :, 0] > 0)[:, 0]) + 1.0),
        "rank_5": _converted(lambda x: tf.transpose(tf.reshape(x, (1, 2, 4, 4, 4)), (0, 1, 3, 2, 4)) * weights[0, :4]),
        "flex": _converted(lambda x: tf.math.erf(x @ weights) @ weights, flex=True),
        "8_megabytes": _converted(lambda x: x @ large),
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = str(folder / f"{name}.tflite")
        Path(paths[name]).write_bytes(content)
    return paths


@pytest.fixture
def broken_files(tmp_path, tflite_files) -> dict[str, str]:
    """Paths of files that are no usable .tflite file, by what is wrong."""
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
