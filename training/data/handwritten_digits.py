"""Load the handwritten digits included in scikit-learn."""

from __future__ import annotations

import numpy as np

from keras_vit.models.image_facts import UNIT, Statistics
from keras_vit.training import augment as augmentations
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.numpy_arrays import arrays
from keras_vit.training.data.pipeline import as_json
from keras_vit.training.lazy_modules import keras, tf
from keras_vit.utils.missing import needs


def digits(
    image_size: int = 8,
    batch_size: int = 64,
    seed: int = 0,
    augment: bool = True,
    statistics: Statistics | str | None = "model",
) -> ImageData:
    """Load the handwritten digits included in scikit-learn: 1,797 images of 8 x 8 pixels in 10 classes.

    The images are the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI Machine
    Learning Repository, 1998). The split is stratified by class and always the same: 1,257 training images, 180
    validation images and 360 test images.

    Args:
        image_size: Height and width in pixels, a multiple of 8. Images are enlarged by bilinear interpolation.
        batch_size: Number of images in a batch. Each training epoch drops the images left over after the last full
            batch; they differ between epochs.
        seed: Seed of the order and the augmentation of the training images. The split does not depend on it.
        augment: Whether to randomly shift each training image by up to a tenth of its size, rotate it by up to 10
            degrees and scale it by up to 10 percent.
        statistics: As in `Pipeline`. Of a model that does not say how it takes images, it is assumed that it takes them
            in [0, 1].

    Returns:
        Image data with one channel.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If `image_size` is not a multiple of 8, or `batch_size` is not between 1 and 1,257.
    """
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size must be a multiple of 8, the size of the scanned digits; received {image_size}.")

    images, labels, split, class_names = _load()
    images = tf.image.resize(images, (image_size, image_size), "bilinear").numpy()
    train = split["train"]
    if not 1 <= batch_size <= len(train):
        raise ValueError(
            f"batch_size must be between 1 and {len(train)}, the number of training images; received {batch_size}."
        )
    parts = {name: (images[part], labels[part]) for name, part in split.items()}
    settings = {"image_size": image_size, "batch_size": batch_size, "seed": seed, "augment": augment}

    from keras_vit.models.model_images import set_preparation

    def for_model(model: keras.Model) -> _Digits:
        return _Digits(parts, settings, _statistics_for(model, statistics))

    def evaluated(digits: _Digits, name: str) -> tf.data.Dataset:
        dataset = digits.once(name)
        set_preparation(dataset, lambda model: for_model(model).once(name))
        return dataset

    def as_data(digits: _Digits) -> ImageData:
        return ImageData(
            class_names=class_names,
            input_shape=(image_size, image_size, 1),
            batch_size=batch_size,
            steps_per_epoch=digits.steps,
            train=digits.epoch,
            validation=evaluated(digits, "validation"),
            test=evaluated(digits, "test"),
            test_images=digits.normalized(parts["test"][0]),
            test_labels=parts["test"][1],
            settings={"source": "digits", **settings, "statistics": as_json(digits.statistics)},
            prepare=lambda model: as_data(for_model(model)),
            depends_on_model=digits.statistics == "model",
        )

    return as_data(_Digits(parts, settings, statistics))


def digit_views(**pipeline) -> ImageData:
    """Load the handwritten digits in several views of each training image, for `keras_vit.training.DINO`.

    Args:
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data with one channel and the split of `digits`.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If an argument is out of range, or a view needs colors.
    """
    images, labels, split, class_names = _load()
    pixels = np.rint(255 * images).astype("uint8")
    train, validation = split["train"], split["validation"]
    return arrays(
        pixels[train],
        labels[train],
        validation=(pixels[validation], labels[validation]),
        class_names=class_names,
        **{**pipeline, "channels": 1},
    )


def _load():
    """Return images in [0, 1], their classes, the indices of each part of the split, and the names of the classes."""
    with needs("scikit-learn", "the digits data set", "train"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    source = load_digits()
    images, labels = (source.images[..., None] / 16).astype("float32"), source.target.astype("int64")
    rest, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    split = {"train": train, "validation": validation, "test": test}
    return images, labels, split, tuple(str(name) for name in source.target_names)


def _statistics_for(model, stated):
    """Return the statistics to normalize the digits by for a model; see `digits`."""
    from keras_vit.models.model_images import agreed_statistics, model_statistics

    if stated != "model":
        return agreed_statistics(stated, model, channels=1)
    try:
        return model_statistics(model)
    except ValueError:
        return UNIT


class _Digits:
    """The digits with images normalized by statistics.

    Args:
        parts: Images in [0, 1] and labels, by name of the part.
        settings: The arguments of `digits` other than its statistics.
        statistics: As in `Pipeline`.
    """

    def __init__(self, parts, settings, statistics):
        self.parts, self.statistics = parts, statistics
        self.seed, self.augment, self.batch_size = (settings[name] for name in ("seed", "augment", "batch_size"))
        self.steps = len(parts["train"][0]) // self.batch_size
        self._train = tuple(map(tf.constant, (parts["train"][0], _one_hot(parts["train"][1]))))

    def normalized(self, images):
        """Normalize images in [0, 1]."""
        if not isinstance(self.statistics, Statistics):
            return images * np.float32(255)
        (scale,), (offset,) = self.statistics.scale_and_offset(1)
        return images * np.float32(255 * scale) + np.float32(offset)

    def once(self, name: str) -> tf.data.Dataset:
        """Return the batches of a part, without augmentation."""
        images, labels = self.parts[name]
        arrays = self.normalized(images), _one_hot(labels)
        return tf.data.Dataset.from_tensor_slices(arrays).batch(self.batch_size).prefetch(1)

    def epoch(
        self, epoch: int, skip_steps: int = 0, input_context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        """Return the training batches of an epoch; serves as `ImageData.train`."""
        images, labels = self._train
        order = np.random.default_rng((self.seed, epoch)).permutation(len(labels))
        # Together with its index, this number is the seed of an image in this epoch.
        epoch_seed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0])

        def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = tf.gather(images, index)
            if self.augment:
                seeds = tf.stack([tf.fill(tf.shape(index), tf.constant(epoch_seed, tf.int64)), index], axis=1)
                chosen = augmentations.affine(chosen, seeds, shift=0.1, rotation=10, zoom=0.1)
            return self.normalized(chosen), tf.gather(labels, index)

        chosen = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)[skip_steps:]
        if input_context is not None:
            chosen = chosen[:, input_context.input_pipeline_id :: input_context.num_input_pipelines]
        batches = tf.data.Dataset.from_tensor_slices(chosen)
        return batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _one_hot(labels):
    return np.eye(10, dtype="float32")[labels]
