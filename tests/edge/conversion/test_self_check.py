"""Every export compares its file with the model, and leaves no file that computes something else."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.edge.conversion.self_check import sample_inputs
from tests.edge.models import IMAGES


@keras.saving.register_keras_serializable("tests")
class WrongInTheFile(keras.layers.Layer):
    """Gives what it takes in Keras, and half of it in a file, where the batch is a constant."""

    def call(self, inputs):
        return inputs * (0.5 if inputs.shape[0] == 1 else 1.0)


def model(layer=None):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    x = layer(x) if layer else x
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic_int8", "hybrid_int8"])
def test_a_file_that_is_not_the_model_is_not_left(precision, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"before")
    settings = {"calibration_data": IMAGES} if precision == "hybrid_int8" else {}
    sentence = (
        rf"outputs of the {precision} file .* over 2 images is 6\.\d dB, where at least \d+ dB are needed\. "
        rf"They part at the layer '(wrong_in_the_file|global_average_pooling2d)[_0-9]*' "
        r"\(\d\d dB before it, 6 dB after it\)"
    )
    with pytest.raises(RuntimeError, match=sentence):
        edge.export(model(WrongInTheFile()), tmp_path / "model.tflite", precision, **settings)
    assert (tmp_path / "model.tflite").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
    edge.export(model(WrongInTheFile()), tmp_path / "model.tflite", precision, **settings, verify=False)
    assert (tmp_path / "model.tflite").read_bytes() != b"before"


def test_the_images_can_be_given(tmp_path):
    edge.export(model(), tmp_path / "model.tflite", verify=IMAGES)
    with pytest.raises(ValueError, match=r"received \(16, 8, 16, 3\)"):
        edge.export(model(), tmp_path / "model.tflite", verify=IMAGES[:, :8])


def test_outputs_that_are_not_numbers_are_not_left(tmp_path):
    broken = model()
    broken.layers[-1].bias.assign([np.nan, 0, 0, 0])
    with pytest.raises(RuntimeError, match="is nan dB"):
        edge.export(broken, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


class TestTheImagesThatItMakes:
    def range_of(self, model):
        (images,) = sample_inputs(keras_vit.fuse(model), 16).values()
        return images.min(), images.max()

    def vit(self, **settings):
        return keras_vit.ViT_Ti16(input_shape=(32, 32, 3), **settings)

    def test_are_in_the_range_of_the_model(self):
        low, high = self.range_of(self.vit())
        assert -1 <= low < -0.7 and 0.7 < high <= 1
        low, high = self.range_of(self.vit(include_preprocessing=True))
        assert 0 <= low < 40 and 210 < high <= 255

    def test_are_in_the_range_before_a_rescaling(self):
        backbone = self.vit(include_top=False, pooling="token")
        for rescaling in (keras.layers.Rescaling(1 / 127.5, -1), lambda image: (image - 127.5) / 127.5):
            image = keras.Input((32, 32, 3))
            low, high = self.range_of(keras.Model(image, backbone(rescaling(image))))
            assert 0 <= low < 40 and 210 < high <= 255

    def test_are_in_the_range_of_a_quantized_model(self):
        quantized = edge.quantize_aware(model(keras.layers.ReLU()), calibration_data=30 * np.clip(IMAGES, -2, 2))
        (images,) = sample_inputs(quantized).values()
        assert -60 <= images.min() < -30 and 30 < images.max() <= 60

    def test_are_smooth(self):
        (images,) = sample_inputs(keras_vit.fuse(self.vit())).values()
        assert images.shape == (2, 32, 32, 3) and images.dtype == "float32"
        assert np.abs(np.diff(images, axis=1)).max() < 0.25 * np.ptp(images)
        assert images.std() > 0.2
