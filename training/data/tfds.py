"""Load images from TensorFlow Datasets."""

from __future__ import annotations

import difflib

from keras_vit.training.data.decode import Content
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import drawn_from_a_stream
from keras_vit.training.lazy_modules import tf
from keras_vit.utils.missing import needs


class TFDSSource:
    """Provide the images of one split of a data set from TensorFlow Datasets.

    Args:
        builder: Builder of the data set, already prepared.
        split: Split in the notation of TensorFlow Datasets, such as "train[:90%]".
        buffer: Size of the shuffle buffer, in records.
    """

    def __init__(self, builder, split: str, buffer: int):
        self.builder, self.split, self.buffer = builder, split, buffer
        self.class_names = tuple(builder.info.features["label"].names)
        self.size = builder.info.splits[split].num_examples

    @property
    def settings(self) -> dict:
        return {"source": f"{self.builder.info.full_name}, {self.split}", "images": self.size, "buffer": self.buffer}

    def references(self, seed: int | None, repeats: int, workers: int, worker: int) -> tf.data.Dataset:
        import tensorflow_datasets as tfds

        context = None
        if 1 < workers <= len(self.builder.info.splits[self.split].filenames):
            context, workers, worker = tf.distribute.InputContext(workers, worker), 1, 0
        found = self.builder.as_dataset(
            split=self.split,
            decoders={"image": tfds.decode.SkipDecoding()},
            shuffle_files=seed is not None,
            read_config=tfds.ReadConfig(
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
                interleave_cycle_length=16,
                input_context=context,
                try_autocache=False,
                skip_prefetch=True,
                add_tfds_id=True,
            ),
        ).map(lambda features: (features["image"], features["label"], features["tfds_id"]))
        return drawn_from_a_stream(found, self.buffer, seed, repeats, workers, worker)

    def read(self, image: bytes, label: int, name: bytes) -> tuple[Content, int, str]:
        return image, int(label), name.decode()


def tfds_images(
    name: str,
    *,
    train: str = "train[:90%]",
    validation: str = "train[90%:]",
    test: str | None = None,
    data_dir: str | None = None,
    download: bool = True,
    shuffle_buffer: int = 4096,
    **pipeline,
) -> ImageData:
    """Load a data set from TensorFlow Datasets that has the features `image` and `label`.

    Args:
        name: Name of the data set, such as "oxford_flowers102" or "imagenette/320px-v2".
        train: Training split, in the notation of TensorFlow Datasets.
        validation: Validation split.
        test: Test split. If None, there are no test images.
        data_dir: Folder of the data sets, local or on Google Cloud Storage. If None, the default of TensorFlow
            Datasets.
        download: Whether to download and prepare the data set if it is missing.
        shuffle_buffer: Number of training images in the shuffle buffer, which is kept in memory.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        ImportError: If TensorFlow Datasets is missing.
        ValueError: If there is no such data set or split, or its images don't have one label each.
        FileNotFoundError: If the data set is missing and `download` is False.
    """
    with needs("TensorFlow Datasets", f"the data set {name!r}", "tfds"):
        import tensorflow_datasets as tfds
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds.list_builders(), n=3)
        hint = f" The nearest are {', '.join(near)}." if near else ""
        raise ValueError(f"TensorFlow Datasets has no data set named {name!r}.{hint}") from error
    features = builder.info.features
    if not {"image", "label"} <= set(features or ()) or not isinstance(features["label"], tfds.features.ClassLabel):
        raise ValueError(f"{name!r} is not a data set of images with one label each; its features are {features}.")
    if download:
        builder.download_and_prepare()
    elif not builder.is_prepared():
        raise FileNotFoundError(f"{name!r} is not in {builder.data_dir}; pass download=True to download it.")
    sources = []
    for split in (train, validation, test):
        if split is None:
            continue
        if split.split("[")[0] not in builder.info.splits:
            raise ValueError(f"{name!r} has no split {split!r}; it has {', '.join(builder.info.splits)}.")
        sources.append(TFDSSource(builder, split, shuffle_buffer))
    return image_data(*sources, **pipeline)
