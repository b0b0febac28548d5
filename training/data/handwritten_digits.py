"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from keras_vit.training import augment as augmentations
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.lazy_modules import tf
from keras_vit.utils.missing import needs


def digits(image_size: int = 8, batch_size: int = 64, seed: int = 0, augment: bool = True) -> ImageData:
    """Load handwritten digits: 1,797 scanned images of 8 x 8 pixels in 10 classes, which come with scikit-learn.

    They are the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI
    Machine Learning Repository, 1998). The split is by class and always the same: 1,257 images to train on,
    180 for validation, 360 for the test.

    Args:
        image_size: Height and width in pixels, a multiple of 8; the images are enlarged bilinearly.
        batch_size: Images in a batch. Training leaves out the images that don't fill one, others in each
            epoch.
        seed: Decides the order and the augmentation of the training images, not the split.
        augment: Shift each training image by up to a tenth of its size, turn it by up to 10 degrees and
            scale it by up to 10 percent.

    Returns:
        Images of one channel with values in [0, 1].

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: The image size is no multiple of 8, or the batch size is not between 1 and 1,257.
    """
    with needs("scikit-learn", "the data set of digits", "train"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size is a multiple of 8, the size of the scanned digits; received {image_size}.")

    source = load_digits()
    images = (source.images[..., None] / 16).astype("float32")
    images = tf.image.resize(images, (image_size, image_size), "bilinear").numpy()
    labels = source.target.astype("int64")
    rest, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    if not 1 <= batch_size <= len(train):
        raise ValueError(f"batch_size is between 1 and {len(train)}, the training images; received {batch_size}.")

    one_hot = np.eye(10, dtype="float32")[labels]
    train_images, train_labels = tf.constant(images[train]), tf.constant(one_hot[train])
    steps = len(train) // batch_size

    def epoch_batches(
        epoch: int, skip_steps: int = 0, input_context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        order = np.random.default_rng((seed, epoch)).permutation(len(train))
        # With an image's index, this number makes the image's own seed for this epoch.
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
