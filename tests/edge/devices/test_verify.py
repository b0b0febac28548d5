import json

import numpy as np
import pytest

from keras_vit.edge.devices.verify import verify
from keras_vit.edge.images import image_batches


@pytest.fixture
def labels(model, images):
    """Labels with which the model is right about the first 9 of 12 images."""
    classes = np.argmax(model(images, training=False), -1)
    classes[9:] = (classes[9:] + 1) % 5
    return classes


def _dataset(*parts):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


def test_a_float_file_agrees_with_its_model(model, tflite_files, images):
    result = verify(model, tflite_files["float32"], images, batch_size=5)
    assert result.images == 12
    assert result.max_abs_error < 1e-6
    assert result.snr_db > 100
    assert result.top1_agreement == 1
    assert result.top1 is None


def test_the_figures_follow_their_definitions(model, tflite_files, images):
    from ai_edge_litert.interpreter import Interpreter as LiteRT

    interpreter = LiteRT(tflite_files["float16"])
    interpreter.allocate_tensors()
    given = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        given.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    wanted = np.asarray(model(images, training=False), np.float64)
    error = np.asarray(given, np.float64) - wanted

    result = verify(model, tflite_files["float16"], images)
    assert result.max_abs_error == pytest.approx(np.abs(error).max(), rel=0.02)
    assert result.max_relative_error == pytest.approx(np.abs(error).max() / wanted.max(), rel=0.02)
    assert result.snr_db == pytest.approx(10 * np.log10((wanted**2).sum() / (error**2).sum()), abs=0.1)


def test_an_int8_file_is_close_to_its_model(model, tflite_files, images):
    result = verify(model, tflite_files["int8"], images)
    assert 10 < result.snr_db < 60
    assert 0 < result.max_abs_error < 0.1


def test_a_file_with_other_weights_differs(model, tflite_files, images):
    import keras

    keras.utils.set_random_seed(7)
    other = keras.models.clone_model(model)  # With new weights.
    result = verify(other, tflite_files["float32"], images)
    assert result.snr_db < 20
    assert result.top1_agreement < 1


def test_a_file_can_be_the_reference(tflite_files, images):
    result = verify(tflite_files["float32"], tflite_files["float32"], images)
    assert (result.max_abs_error, result.max_relative_error, result.snr_db) == (0, 0, np.inf)
    assert result.to_dict()["snr_db"] is None
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()
    assert verify(tflite_files["float32"], tflite_files["int8"], images).max_abs_error > 0


def test_all_outputs_are_compared_in_order(many_outputs_model, tflite_files, images):
    result = verify(many_outputs_model, tflite_files["many_outputs"], images)
    assert result.snr_db > 100
    last = many_outputs_model.layers[-1]
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias + 1])
    try:
        changed = verify(many_outputs_model, tflite_files["many_outputs"], images)
    finally:
        last.set_weights([kernel, bias])
    assert changed.max_abs_error == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
def test_labels_give_top_1(model, tflite_files, images, labels, one_hot):
    given = np.eye(5)[labels] if one_hot else labels
    result = verify(model, tflite_files["float32"], images, batch_size=5, labels=given)
    assert (result.top1, result.reference_top1) == (0.75, 0.75)
    assert "75.00%" in str(result)


def test_datasets_give_the_same_as_arrays(model, tflite_files, images, labels):
    wanted = verify(model, tflite_files["int8"], images).to_dict()
    given = verify(model, tflite_files["int8"], _dataset(images).batch(5)).to_dict()
    assert given == pytest.approx(wanted)
    labeled = verify(model, tflite_files["float32"], _dataset(images, labels).batch(5))
    assert labeled.images == 12
    assert labeled.top1 == 0.75


@pytest.mark.parametrize("count", [11, 13])
def test_there_must_be_one_label_per_image(model, tflite_files, images, count):
    with pytest.raises(ValueError, match="abels"):
        verify(model, tflite_files["float32"], images, labels=np.zeros(count, int))


def test_a_model_of_other_images_or_outputs_is_refused(model, many_outputs_model, tflite_files, images):
    import keras

    larger = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    with pytest.raises(ValueError, match=r"float32\.tflite takes images of shape \(8, 8, 3\).*\(16, 16, 3\)"):
        verify(larger, tflite_files["float32"], images)
    with pytest.raises(ValueError, match=r"many_outputs\.tflite gives outputs"):
        verify(model, tflite_files["many_outputs"], images)
    with pytest.raises(ValueError, match=r"rank_5\.tflite takes images of shape \(8, 16\)"):
        verify(model, tflite_files["rank_5"], images)
    with pytest.raises(TypeError, match="must be a keras"):
        verify(None, tflite_files["float32"], images)


def test_nan_in_the_outputs_is_not_hidden(tmp_path, images):
    import tensorflow as tf

    concrete = tf.function(lambda x: tf.math.log(tf.reshape(x, (1, 192)))).get_concrete_function(
        tf.TensorSpec((1, 8, 8, 3), tf.float32)
    )
    path = tmp_path / "log.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    result = verify(path, path, images)
    assert np.isnan(result.max_abs_error)
    assert not result.snr_db > 0


def _with(images, index, value):
    changed = images.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda images: images[:0], ValueError, "no images"),
        (lambda images: _dataset(images[:0]).batch(4), ValueError, "no images"),
        (lambda images: images[0], ValueError, r"\(N, 8, 8, 3\); received \(8, 8, 3\)"),
        (lambda images: images[:, :4], ValueError, r"\(N, 8, 8, 3\); received \(12, 4, 8, 3\)"),
        (lambda images: _dataset(images), ValueError, r"\(N, 8, 8, 3\); received \(8, 8, 3\)"),
        (lambda images: _dataset(images).batch(4).repeat(), ValueError, "infinite"),
        (
            lambda images: _with(images, (7, 1, 2, 0), np.nan),
            ValueError,
            "Image 7 has the value nan at row 1, column 2",
        ),
        (lambda images: _with(images, (3, 0, 0, 2), np.inf), ValueError, "Image 3 has the value inf"),
        (lambda images: images.astype(str), TypeError, "dtype <U"),
        (lambda images: images > 0, TypeError, "dtype bool"),
        (lambda images: list(images), TypeError, "a list"),
        (lambda images: _dataset(images).batch(4).map(lambda x: {"image": x}), TypeError, "dict"),
    ],
)
def test_unusable_images_are_refused_in_one_line(images, make, error, words):
    with pytest.raises(error, match=words) as raised:
        list(image_batches(make(images), (8, 8, 3), batch_size=5))
    assert "\n" not in str(raised.value)


def test_images_come_in_batches_of_float32(images):
    numbers = np.arange(12 * 192, dtype=np.uint8).reshape(12, 8, 8, 3)
    batches = [pixels for pixels, _ in image_batches(numbers, (8, None, 3), batch_size=5)]
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert {batch.dtype for batch in batches} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(batches), numbers)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A model with named inputs and outputs, what it takes, and its file. All outputs differ."""
    import keras

    from keras_vit import edge

    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((4,), name="a")}
    # In a file, y10 comes after y2; in the model, before it.
    outputs = {"y10": inputs["b"] * 10, "y2": inputs["b"] * 2 + inputs["a"], "x": inputs["a"] * 3}
    model = keras.Model(inputs, outputs)
    values = {"a": np.ones((3, 4), "float32"), "b": np.full((3, 4), 2, "float32")}
    file = edge.export(model, tmp_path_factory.mktemp("named") / "model.tflite", verify=False)
    return model, values, file


def test_inputs_and_outputs_are_paired_by_name(named):
    model, values, file = named
    assert verify(model, file, values).max_abs_error < 1e-6
    assert verify(file, file, values).max_abs_error == 0


def test_a_file_in_another_order_is_paired_by_name(named, tmp_path):
    import tensorflow as tf

    model, values, _ = named

    def swapped(a, b):
        return {"y2": b * 2 + a, "x": a * 3, "y10": b * 10}

    specs = [tf.TensorSpec((1, 4), tf.float32, name=name) for name in ("a", "b")]
    module = tf.Module()
    module.serve = tf.function(swapped, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    file = tmp_path / "swapped.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    assert verify(model, file, values).max_abs_error < 1e-6


def test_outputs_of_other_names_are_refused(named):
    import keras

    model, values, file = named
    other = keras.Model(model.input, {"z": model.output["x"], "y2": model.output["y2"], "y10": model.output["y10"]})
    with pytest.raises(ValueError, match=r"gives the outputs .*'x'.*; the model gives .*'z'"):
        verify(other, file, values)


def test_inputs_of_other_shapes_are_refused(named, model, images):
    with pytest.raises(ValueError, match=r"model\.tflite takes the inputs .*; the model takes "):
        verify(model, named[2], images)
