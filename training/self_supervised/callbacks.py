"""Callbacks that save what a run without labels produces: the encoder, and pictures of reconstructions."""

from pathlib import Path

import keras
import numpy as np

from keras_vit.models.image_facts import Statistics
from keras_vit.training.distribution.strategy import is_chief
from keras_vit.training.self_supervised.mae import predictions_of
from keras_vit.training.self_supervised.partial import thaw
from keras_vit.training.self_supervised.patches import statistics, to_images, to_patches
from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs


class SaveEncoder(keras.callbacks.Callback):
    """Save the encoder after each epoch, so that it can be used while the training continues.

    Args:
        encoder: The encoder, which shares its layers with the model that is trained. What is saved is a copy, in which
            nothing is frozen.
        path: The path of the file, ending in ".keras".
    """

    def __init__(self, encoder: keras.Model, path: str | Path):
        super().__init__()
        self._encoder, self._path = encoder, Path(path)
        self._copy = None

    def on_epoch_end(self, epoch, logs=None):
        if not is_chief(self.model):
            return
        if self._copy is None:
            self._copy = keras.models.clone_model(self._encoder)
            thaw(self._copy)
        # Layer by layer, because several layers may share a weight, and those of the copy do not.
        for trained, copied in zip(self._encoder.layers, self._copy.layers, strict=True):
            copied.set_weights(trained.get_weights())
        with replacing(self._path) as partial:
            self._copy.save(partial)


class ReconstructionPictures(keras.callbacks.Callback):
    """Save a picture after each epoch: masked images, their reconstructions, and the images, one row for each image.

    The reconstruction has the visible patches as they are. Predictions of normalized pixels get the mean and the
    standard deviation of the true patch, as in figure 2 of arXiv 2111.06377.

    Args:
        images: A few images, as the model takes them.
        noise: The random numbers of their masks, (images, patches).
        folder: The folder of the pictures, one file per epoch.
    """

    def __init__(self, images: np.ndarray, noise: np.ndarray, folder: str | Path):
        super().__init__()
        with needs("pillow", "pictures of reconstructions", "inspect"):
            import PIL.Image  # noqa: F401
        self._images, self._noise, self._folder = np.asarray(images), np.asarray(noise), Path(folder)
        self._predictions = None

    def on_epoch_end(self, epoch, logs=None):
        if not is_chief(self.model):
            return
        from PIL import Image

        if self._predictions is None:
            self._predictions = predictions_of(self.model)
        picture = reconstruction_picture(self.model, self._images, self._noise, self._predictions)
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._folder / f"epoch_{epoch + 1:04}.png") as partial:
            Image.fromarray(picture).save(partial, "PNG")


def reconstruction_picture(
    model: keras.Model, images: np.ndarray, noise: np.ndarray, predictions: keras.Model | None = None
) -> np.ndarray:
    """Return a picture of what a masked autoencoder sees, what it reconstructs, and the images, side by side.

    Args:
        model: A masked autoencoder.
        images: A few images, as the model takes them.
        noise: The random numbers of their masks, (images, patches).
        predictions: What `predictions_of` returns for the model, to use it several times.

    Returns:
        An array (images * height, 3 * width, 3), uint8.
    """
    loss = model.get_layer("loss")
    preprocessing = model.get_layer("preprocessing")
    predicting = predictions_of(model) if predictions is None else predictions
    found = np.asarray(predicting.predict_on_batch([images, noise]), "float32")
    images = np.asarray(preprocessing(images), "float32")
    patches = np.array(to_patches(images, loss.patch_size))
    if loss.normalize_targets:
        mean, deviation = map(np.asarray, statistics(patches))
        found = found * deviation + mean
    hidden = np.asarray(loss.hidden(noise))[..., None] > 0
    scale, offset = (
        np.array(values, "float32")
        for values in Statistics(preprocessing.mean, preprocessing.std).scale_and_offset(images.shape[3])
    )
    gray = np.tile(128 * scale + offset, patches.shape[2] // images.shape[3])
    columns = [np.where(hidden, gray, patches), np.where(hidden, found, patches), patches]
    size = images.shape[1:3]
    shown = np.concatenate([np.asarray(to_images(column, size, loss.patch_size)) for column in columns], axis=2)
    pixels = np.clip(np.rint((shown - offset) / scale), 0, 255).astype("uint8")
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3)).reshape(-1, pixels.shape[2], 3)
