"""Load the handwritten digits included in scikit-learn."""

from __future__ import annotations

import numpy as np

from keras_vit.training import augment as augmentations
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.lazy_modules import tf
from keras_vit.utils.missing import needs


def digits(image_size: int = 8, batch_size: int = 64, seed: int = 0, augment: bool = True) -> ImageData:
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

    Returns:
        Image data with one channel and values in [0, 1].

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If `image_size` is not a multiple of 8, or `batch_size` is not between 1 and 1,257.
    """
    with needs("scikit-learn", "the digits data set", "train"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size must be a multiple of 8, the size of the scanned digits; received {image_size}.")

    source = load_digits()
    images = (source.images[..., None] / 16).astype("float32")
    images = tf.image.resize(images, (image_size, image_size), "bilinear").numpy()
    labels = source.target.astype("int64")
    rest, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    if not 1 <= batch_size <= len(train):
        raise ValueError(
            f"batch_size must be between 1 and {len(train)}, the number of training images; received {batch_size}."
        )

    one_hot = np.eye(10, dtype="float32")[labels]
    train_images, train_labels = tf.constant(images[train]), tf.constant(one_hot[train])
    steps = len(train) // batch_size

    def epoch_batches(
        epoch: int, skip_steps: int = 0, input_context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        order = np.random.default_rng((seed, epoch)).permutation(len(train))
        # Together with its index, this number is the seed of an image in this epoch.
        epoch_seed = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])

        def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = tf.gather(train_images, index)
            if augment:
                seeds = tf.stack([tf.fill(tf.shape(index), tf.constant(epoch_seed, tf.int64)), index], axis=1)
                chosen = augmentations.affine(chosen, seeds, shift=0.1, rotation=10, zoom=0.1)
            return chosen, tf.gather(train_labels, index)

        chosen = order[: steps * batch_size].reshape(steps, batch_size)[skip_steps:]
        if input_context is not None:
            chosen = chosen[:, input_context.input_pipeline_id :: input_context.num_input_pipelines]
        batches = tf.data.Dataset.from_tensor_slices(chosen)
        return batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def once(part: np.ndarray) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((images[part], one_hot[part])).batch(batch_size).prefetch(1)

    return ImageData(
        class_names=tuple(str(name) for name in source.target_names),
        input_shape=(image_size, image_size, 1),
        batch_size=batch_size,
        steps_per_epoch=steps,
        train=epoch_batches,
        validation=once(validation),
        test=once(test),
        test_images=images[test],
        test_labels=labels[test],
        settings={
            "source": "digits",
            "image_size": image_size,
            "batch_size": batch_size,
            "seed": seed,
            "augment": augment,
        },
    )
