"""Turn sources of images into batches: order, decoding, augmentation, workers, and resuming within an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.training.augment.augmentation import Augmentation
from keras_vit.training.augment.crops import CentreCrop
from keras_vit.training.augment.draws import numbers_of
from keras_vit.training.data.decode import CorruptImages, crops_of
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.source import Source, in_memory
from keras_vit.training.lazy_modules import tf


@dataclass(frozen=True)
class MultiScale:
    """Batches of several image sizes, as MobileViT is trained on (arXiv 2110.02178, section 3.2).

    Each size is used equally often, in an order drawn for each epoch.

    Attributes:
        sizes: Image sizes in pixels.
        constant_batch: Use the data's batch size at every size. Otherwise batches of all sizes have about the same
            number of pixels.
        multiple_of: Sizes of batches are rounded down to a multiple of this.
    """

    sizes: tuple[int, ...] = (160, 192, 224, 256, 288, 320)
    constant_batch: bool = False
    multiple_of: int = 8

    def batch_sizes(self, image_size: int, batch_size: int) -> tuple[int, ...]:
        """Return the batch size of each image size, given that of one image size."""
        if self.constant_batch:
            return (batch_size,) * len(self.sizes)
        fitting = (batch_size * (image_size / size) ** 2 for size in self.sizes)
        return tuple(max(1, int(number) // self.multiple_of) * self.multiple_of for number in fitting)


@dataclass(frozen=True)
class Pipeline:
    """How the images of a source are turned into batches.

    Attributes:
        image_size: Height and width in pixels.
        batch_size: Images in a batch, of all workers together. Each epoch of training leaves out the images that don't
            fill a batch, others every time.
        seed: Seed of the order and the augmentation of the training images.
        augmentation: Augmentation of the training images. A sequence makes one view of each image per entry, and the
            images of a batch are then a tuple. None prepares them as for evaluation.
        evaluation: The crop that images are evaluated on.
        multi_scale: Sizes of the training images, if there is more than one.
        statistics: Statistics to normalize images by, as the model expects. None leaves them in [0, 255], for a model
            with preprocessing of its own.
        channels: 3, or 1 for gray images.
        max_corrupt: How many images that can't be decoded may be skipped; each is logged. In a training batch the next
            image replaces them.
        cache: Read all files into memory at the beginning.
    """

    image_size: int = 224
    batch_size: int = 64
    seed: int = 0
    augmentation: Augmentation | Sequence[Augmentation] | None = field(default_factory=Augmentation)
    evaluation: CentreCrop = field(default_factory=CentreCrop)
    multi_scale: MultiScale | None = None
    statistics: Statistics | None = IMAGENET
    channels: int = 3
    max_corrupt: int = 10
    cache: bool = False

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise ValueError(f"Images have 1 or 3 channels; received channels={self.channels}.")
        if self.image_size < 1 or self.batch_size < 1:
            raise ValueError(
                "Images and batches have a size of at least 1; "
                f"received image_size={self.image_size}, batch_size={self.batch_size}."
            )
        mean = self.statistics.mean if self.statistics is not None else 0.0
        if isinstance(mean, tuple) and len(mean) != self.channels:
            raise ValueError(
                f"The statistics are of {len(mean)} channels, the images have {self.channels}; "
                "pass statistics=Statistics(0.5, 0.5)."
            )
        if self.channels == 1 and any(view.needs_colors for view in self.views):
            raise ValueError("Gray images take crops, flips, erasing and mixing only; the augmentation needs colors.")
        if len(self.views) > 1 and (self.multi_scale or any(view.mixes for view in self.views)):
            raise ValueError("Images in several views can be neither mixed nor of several sizes.")

    @property
    def views(self) -> tuple[Augmentation, ...]:
        """The augmentation of each view."""
        if self.augmentation is None:
            return (Augmentation(self.evaluation, flip=0.0),)
        return (self.augmentation,) if isinstance(self.augmentation, Augmentation) else tuple(self.augmentation)

    def normalized(self, images: tf.Tensor) -> tf.Tensor:
        """Normalize images in [0, 255] as the model expects them."""
        if self.statistics is None:
            return images
        scale, offset = self.statistics.scale_and_offset(self.channels)
        return images * np.array(scale, "float32") + np.array(offset, "float32")


def image_data(train: Source, validation: Source, test: Source | None = None, **pipeline) -> ImageData:
    """Make image data of sources.

    Args:
        train: The training images.
        validation: The validation images.
        test: The test images.
        pipeline: Arguments of `Pipeline`.

    Raises:
        ValueError: There are fewer training images than a batch takes, or an argument is out of range.
    """
    preparation = Pipeline(**pipeline)
    if preparation.cache:
        train, validation = in_memory(train), in_memory(validation)
        test = None if test is None else in_memory(test)
    corrupt = CorruptImages(preparation.max_corrupt)
    batches = _TrainingBatches(train, preparation, corrupt)
    return ImageData(
        class_names=train.class_names,
        input_shape=(preparation.image_size, preparation.image_size, preparation.channels),
        batch_size=preparation.batch_size,
        steps_per_epoch=batches.steps,
        train=batches,
        validation=_once(validation, preparation, corrupt),
        settings={"train": train.settings, "validation": validation.settings, "pipeline": as_json(preparation)},
        test=_once(test, preparation, corrupt) if test is not None else None,
        corrupt=corrupt.found,
    )


def as_json(value):
    """Describe the data in JSON's types."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


class _TrainingBatches:
    """Called with an epoch and the steps to skip: `ImageData.train`.

    A step's batch is a function of the seed, the epoch and the step: the order and the sizes are drawn from the seed
    and the epoch, and all that happens to an image from these and its place in the epoch.
    """

    def __init__(self, source: Source, pipeline: Pipeline, corrupt: CorruptImages):
        self.source, self.pipeline, self.views = source, pipeline, pipeline.views
        scale = pipeline.multi_scale or MultiScale((pipeline.image_size,), constant_batch=True)
        self.sizes = np.array(scale.sizes)
        self.batch_sizes = np.array(scale.batch_sizes(pipeline.image_size, pipeline.batch_size))
        self.rounds = source.size // int(self.batch_sizes.sum())
        self.steps = self.rounds * len(self.sizes)
        if not self.steps:
            raise ValueError(
                f"{source.size} training images are fewer than a batch of each size takes, "
                f"{self.batch_sizes.sum()}; received batch_size={pipeline.batch_size}."
            )
        self.load = crops_of(source.read, [view.crop for view in self.views], corrupt, pipeline.channels)
        # Traced once, not in each epoch.
        self._cropped = tf.function(self._crop, autograph=False)
        self._augmented = tf.function(self._augment, autograph=False)

    def __call__(
        self, epoch: int, skip_steps: int = 0, input_context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        workers, worker = 1, 0
        if input_context is not None:
            workers, worker = input_context.num_input_pipelines, input_context.input_pipeline_id
        if (self.batch_sizes % workers).any():
            raise ValueError(f"Batches of {self.batch_sizes.tolist()} images can't be shared by {workers} workers.")
        epoch_seed, order_seed = (
            int(number) for number in np.random.SeedSequence((self.pipeline.seed, epoch)).generate_state(2)
        )
        # The size of each step's images, and how many there are for this worker.
        of_step = np.random.default_rng(epoch_seed).permutation(np.repeat(np.arange(len(self.sizes)), self.rounds))
        counts = (self.batch_sizes // workers)[of_step]
        sizes = np.repeat(self.sizes[of_step], counts)
        first = int(counts[:skip_steps].sum())

        repeats = max(view.repeats for view in self.views)
        references = self.source.references(order_seed, repeats, workers, worker)
        # A worker's files may hold fewer images than its part; it then begins anew.
        references = references.repeat().take(len(sizes)).skip(first)
        # The same images on one worker as on several have the same places, so the same draws.
        places = np.arange(len(sizes)) * workers + worker
        numbered = tf.data.Dataset.from_tensor_slices((places[first:], sizes[first:]))

        @tf.autograph.experimental.do_not_convert
        def cropped(reference, numbers):
            place, size = numbers
            return self._cropped(reference, size, tf.stack([tf.constant(epoch_seed, tf.int64), place]))

        @tf.autograph.experimental.do_not_convert
        def augmented(step, batch):
            seed = tf.stack([tf.constant(epoch_seed, tf.int64), -1 - (step * workers + worker)])
            return self._augmented(*batch, seed)

        images = tf.data.Dataset.zip(references, numbered).map(
            cropped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        if len(self.sizes) == 1:
            batches = images.batch(int(counts[0]), drop_remainder=True)
        else:
            batches = images.batch(1).rebatch(counts[skip_steps:])
        return (
            batches.enumerate(skip_steps)
            .map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .apply(tf.data.experimental.assert_cardinality(self.steps - skip_steps))
            .prefetch(tf.data.AUTOTUNE)
        )

    def _crop(self, reference, size, seed):
        """Return an image's crops by view, each view's seed and numbers, its class, and whether it was decoded."""
        sizes = [size if view.image_size is None else view.image_size for view in self.views]
        crops, label, sound = self.load(reference, tf.stack(sizes), seed)
        fixed = self.pipeline.image_size if len(self.sizes) == 1 else None
        views = []
        for view, crop, own in zip(self.views, crops, tf.unstack(tf.random.split(seed, len(crops))), strict=True):
            side = view.image_size or fixed
            views.append((tf.ensure_shape(crop, (side, side, self.pipeline.channels)), numbers_of(own), own))
        return tuple(views), label, sound

    def _augment(self, views, labels, sound, seed):
        """Augment and normalize a batch of what `_crop` returns."""
        views, labels = _with_sound_images(views, labels, sound)
        labels = tf.one_hot(labels, len(self.source.class_names))
        images = [view.of_images(*arrays) for view, arrays in zip(self.views, views, strict=True)]
        if len(images) > 1:
            return tuple(map(self.pipeline.normalized, images)), labels
        image, labels = self.views[0].of_batch(images[0], labels, seed)
        return self.pipeline.normalized(image), labels


def _sound_places(sound):
    """Return the indices of the images of a batch that could be decoded."""
    places = tf.where(sound)[:, 0]
    with tf.control_dependencies([tf.debugging.Assert(tf.size(places) > 0, ["No image of a batch can be decoded."])]):
        return tf.identity(places)


def _with_sound_images(views, labels, sound):
    """Replace each image that could not be decoded by the next one that could."""

    def replaced():
        places = _sound_places(sound)
        following = tf.searchsorted(places, tf.range(tf.size(sound), dtype=tf.int64))
        chosen = tf.gather(places, following % tf.size(places))
        # The crops alone: a place keeps its draws.
        crops = [tf.ensure_shape(tf.gather(crop, chosen), crop.shape) for crop, *_ in views]
        return crops, tf.ensure_shape(tf.gather(labels, chosen), labels.shape)

    crops, labels = tf.cond(tf.reduce_all(sound), lambda: ([crop for crop, *_ in views], labels), replaced)
    return [(crop, *draws) for crop, (_, *draws) in zip(crops, views, strict=True)], labels


def _once(source: Source, pipeline: Pipeline, corrupt: CorruptImages) -> tf.data.Dataset:
    """Return each image once, always in the same order, without those that can't be decoded."""
    crops = crops_of(source.read, [pipeline.evaluation], corrupt, pipeline.channels)
    shape = (pipeline.image_size, pipeline.image_size, pipeline.channels)

    @tf.autograph.experimental.do_not_convert
    def evaluated(*reference):
        (image,), label, sound = crops(reference, tf.constant([pipeline.image_size]), tf.zeros(2, tf.int64))
        return tf.ensure_shape(image, shape), label, sound

    @tf.autograph.experimental.do_not_convert
    def finished(images, labels, sound):
        places = _sound_places(sound)
        images, labels = tf.gather(images, places), tf.gather(labels, places)
        return pipeline.normalized(tf.cast(images, tf.float32)), tf.one_hot(labels, len(source.class_names))

    return (
        source.references(None, repeats=1, workers=1, worker=0)
        .apply(tf.data.experimental.assert_cardinality(source.size))
        .map(evaluated, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(pipeline.batch_size)
        .map(finished, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
