"""Turn image sources into batches: order, decoding, augmentation, workers, and resuming within an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.models.image_facts import Statistics
from keras_vit.training.augment.augmentation import Augmentation
from keras_vit.training.augment.crops import CenterCrop
from keras_vit.training.augment.draws import numbers_of
from keras_vit.training.data.codes import CodesFile
from keras_vit.training.data.decode import CorruptImages, crops_of
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.source import Source, in_memory
from keras_vit.training.lazy_modules import tf
from keras_vit.utils.plain import plain

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class MultiScale:
    """Train on batches of several image sizes, as in MobileViT (Mehta and Rastegari, arXiv 2110.02178, section 3.2).

    Every size is used equally often, in a random order that changes with the epoch.

    Attributes:
        sizes: Image sizes in pixels.
        constant_batch: Whether to use the same batch size for every image size. Otherwise, the batch size depends on
            the image size, so that all batches have about the same number of pixels.
        multiple_of: Batch sizes are rounded down to a multiple of this, but not below it.
    """

    sizes: tuple[int, ...] = (160, 192, 224, 256, 288, 320)
    constant_batch: bool = False
    multiple_of: int = 8

    def batch_sizes(self, image_size: int, batch_size: int) -> tuple[int, ...]:
        """Return the batch size for each of `sizes`.

        Args:
            image_size: Image size in pixels that `batch_size` is meant for.
            batch_size: Batch size at `image_size`.
        """
        if self.constant_batch:
            return (batch_size,) * len(self.sizes)
        fitting = (batch_size * (image_size / size) ** 2 for size in self.sizes)
        return tuple(max(1, int(number) // self.multiple_of) * self.multiple_of for number in fitting)


@dataclass(frozen=True)
class Pipeline:
    """Configure how the images of a source are turned into batches.

    Attributes:
        image_size: Height and width in pixels.
        batch_size: Number of images in a batch, over all workers. Each training epoch drops the images left over after
            the last full batch; they differ between epochs.
        seed: Seed of the order and the augmentation of the training images.
        augmentation: Augmentation of the training images. A sequence creates one view of each image per entry, and the
            images of a batch are then a tuple. None prepares training images as for evaluation.
        evaluation: Crop of the validation and test images. None uses the crop and interpolation of the model.
        multi_scale: Image sizes to train on, if there are several.
        statistics: Mean and standard deviation that images are normalized by. "model" asks the model that the data is
            used with, see `ImageData.for_model`; this is only necessary to change for a model that keras_vit did not
            build. None leaves values in [0, 255].
        channels: Number of channels: 3 for RGB images or 1 for grayscale images.
        max_corrupt: Largest number of undecodable images to skip; each is logged. In a training batch, such an image is
            replaced by the next image that can be decoded.
        cache: Whether to read all files into memory at the start.
        codes: The path of a file with the codes of the training images, see `CodesFile`. Each training batch then has
            pairs (images, codes) in place of images, for the method `BEiT`. The augmentation must not move the pixels.

    Raises:
        ValueError: If an argument is out of range, or arguments contradict each other.
    """

    image_size: int = 224
    batch_size: int = 64
    seed: int = 0
    augmentation: Augmentation | Sequence[Augmentation] | None = field(default_factory=Augmentation)
    evaluation: CenterCrop | None = None
    multi_scale: MultiScale | None = None
    statistics: Statistics | str | None = "model"
    channels: int = 3
    max_corrupt: int = 10
    cache: bool = False
    codes: str | None = None

    def __post_init__(self):
        for name in ("image_size", "batch_size", "seed", "channels", "max_corrupt"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if isinstance(self.image_size, tuple | list) and len(set(self.image_size)) == 1:
            object.__setattr__(self, "image_size", self.image_size[0])
        if not isinstance(self.image_size, int) or isinstance(self.image_size, bool):
            raise ValueError(
                "image_size must be one number of pixels, because the images of a batch are square, such as "
                f"image_size=224; received {self.image_size!r}. For a model of {self.image_size!r} pixels, crop the "
                "images yourself, and pass batches of them (a tf.data.Dataset) to fit and evaluate."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"Images must have 1 or 3 channels; received channels={self.channels}.")
        if self.image_size < 1 or self.batch_size < 1:
            raise ValueError(
                "Images and batches must have a size of at least 1; "
                f"received image_size={self.image_size}, batch_size={self.batch_size}."
            )
        if isinstance(self.statistics, Statistics):
            counts = {len(value) for value in (self.statistics.mean, self.statistics.std) if isinstance(value, tuple)}
            if counts - {self.channels}:
                raise ValueError(
                    f"The statistics are for {max(counts)} channels, but the images have {self.channels}; "
                    "pass one number for all channels, such as statistics=training.Statistics(0.5, 0.5)."
                )
        elif self.statistics not in ("model", None):
            raise ValueError(
                "statistics must be training.Statistics(mean, std), None for pixels in [0, 255], or 'model'; received "
                f"{self.statistics!r}."
            )
        if self.channels == 1 and any(view.needs_colors for view in self.views):
            raise ValueError(
                "Grayscale images support only crops, flips, erasing and mixing; the augmentation needs colors."
            )
        if len(self.views) > 1 and (self.multi_scale or any(view.mixes for view in self.views)):
            raise ValueError("Images in several views can be neither mixed nor trained on at several sizes.")

    @property
    def views(self) -> tuple[Augmentation, ...]:
        """Augmentation of each view."""
        if self.augmentation is None:
            return (Augmentation(self.evaluation_crop, flip=0.0),)
        return (self.augmentation,) if isinstance(self.augmentation, Augmentation) else tuple(self.augmentation)

    @property
    def evaluation_crop(self) -> CenterCrop:
        """Crop of the validation and test images."""
        return self.evaluation or CenterCrop()

    def for_model(self, model: keras.Model) -> Pipeline:
        """Return the pipeline with the model's statistics and crop where it states none itself.

        Raises:
            ValueError: If it states other statistics than those of the model, or if it states none and it is not known
                how the model takes images.
        """
        from keras_vit.models.model_images import agreed_statistics, image_facts, model_statistics

        taken = model.inputs[0].shape[-1]
        if taken in (1, 3) and taken != self.channels:
            raise ValueError(
                f"{model.name} takes images with {taken} channels, but those of the data have {self.channels}; create "
                f"the data with channels={taken}."
            )
        if isinstance(self.statistics, str):
            try:
                statistics = model_statistics(model)
            except ValueError as error:
                raise ValueError(
                    f"It is not known how {model.name} takes images: keras_vit did not build it. State it when you "
                    "create the data: statistics=None for a model that takes pixels in [0, 255], or "
                    "statistics=training.Statistics(mean, std)."
                ) from error
        else:
            statistics = agreed_statistics(self.statistics, model, self.channels)
        evaluation = self.evaluation
        if evaluation is None:
            try:
                facts = image_facts(model)
                evaluation = CenterCrop(facts.crop_fraction, facts.interpolation)
            except ValueError:  # The model knows nothing about its images.
                evaluation = CenterCrop()
        return dataclasses.replace(self, statistics=statistics, evaluation=evaluation)

    def normalized(self, images: tf.Tensor) -> tf.Tensor:
        """Normalize images with values in [0, 255] by the statistics, if there are any yet."""
        if not isinstance(self.statistics, Statistics):
            return images
        scale, offset = self.statistics.scale_and_offset(self.channels)
        return images * np.array(scale, "float32") + np.array(offset, "float32")


def image_data(train: Source, validation: Source, test: Source | None = None, **pipeline) -> ImageData:
    """Create image data from sources.

    Args:
        train: Source of the training images.
        validation: Source of the validation images.
        test: Source of the test images, if there are any.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        ValueError: If there are fewer training images than one batch of each size needs, or an argument is out of
            range.
    """
    preparation = Pipeline(**pipeline)
    if preparation.cache:
        train, validation = in_memory(train), in_memory(validation)
        test = None if test is None else in_memory(test)
    corrupt = CorruptImages(preparation.max_corrupt)
    numbered = getattr(train, "numbered", None)

    def prepared(pipeline):
        batches = _TrainingBatches(train, pipeline, corrupt)
        return ImageData(
            class_names=train.class_names,
            input_shape=(pipeline.image_size, pipeline.image_size, pipeline.channels),
            batch_size=pipeline.batch_size,
            steps_per_epoch=batches.steps,
            train=batches,
            validation=_evaluated(validation, pipeline, preparation, corrupt),
            settings={
                "train": train.settings,
                "validation": validation.settings,
                "pipeline": as_json(pipeline),
                **({} if batches.codes is None else {"codes": batches.codes.settings}),
            },
            test=None if test is None else _evaluated(test, pipeline, preparation, corrupt),
            corrupt=corrupt.found,
            numbered=numbered and (lambda: _TrainingBatches(numbered(), pipeline, corrupt)),
            prepare=lambda model: prepared(preparation.for_model(model)),
            depends_on_model=pipeline.statistics == "model",
        )

    return prepared(preparation)


def evaluation_batches(source: Source, **pipeline) -> tf.data.Dataset:
    """Return batches that contain each image of a source once, prepared for evaluation.

    Args:
        source: Source of the images.
        pipeline: Arguments of `Pipeline`.

    Raises:
        ValueError: If an argument is out of range.
    """
    preparation = Pipeline(**pipeline)
    return _evaluated(source, preparation, preparation, CorruptImages(preparation.max_corrupt))


def _evaluated(source, pipeline, stated, corrupt):
    """Return the batches for evaluation of a pipeline, which a model that they are used with prepares as was stated."""
    from keras_vit.models.model_images import set_preparation

    dataset = _once(source, pipeline, corrupt)
    set_preparation(dataset, lambda model: _once(source, stated.for_model(model), corrupt))
    return dataset


def as_json(value):
    """Convert a setting to JSON types."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


class _TrainingBatches:
    """Create the training batches of an epoch; serves as `ImageData.train`.

    A batch is a function of the seed, the epoch and the step. The seed and the epoch determine the order and the sizes
    of the images; together with the position of an image in the epoch, they determine its augmentation.
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
                f"{source.size} training images are fewer than a batch of each size needs, "
                f"{self.batch_sizes.sum()}; received batch_size={pipeline.batch_size}."
            )
        self.codes = None if pipeline.codes is None else CodesFile(pipeline.codes, source, self.views)
        read = source.read if self.codes is None else self.codes.read
        self.load = crops_of(read, [view.crop for view in self.views], corrupt, pipeline.channels)
        # Traced once, rather than in each epoch.
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
        # The index of the image size of each step, and this worker's batch size at each step.
        of_step = np.random.default_rng(epoch_seed).permutation(np.repeat(np.arange(len(self.sizes)), self.rounds))
        counts = (self.batch_sizes // workers)[of_step]
        sizes = np.repeat(self.sizes[of_step], counts)
        first = int(counts[:skip_steps].sum())

        repeats = max(view.repeats for view in self.views)
        references = self.source.references(order_seed, repeats, workers, worker)
        # A worker's files may hold fewer images than its share of an epoch; it then starts over.
        references = references.repeat().take(len(sizes)).skip(first)
        # Positions count over all workers, so that the augmentation at a position does not depend on their number.
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
        """Crop one image.

        Returns:
            For each view, its crop, random numbers and seed; the class; and whether the image could be decoded.
        """
        sizes = [size if view.image_size is None else view.image_size for view in self.views]
        crops, label, sound = self.load(reference, tf.stack(sizes), seed)
        fixed = self.pipeline.image_size if len(self.sizes) == 1 else None
        views = []
        for view, crop, own in zip(self.views, crops, tf.unstack(tf.random.split(seed, len(crops))), strict=True):
            side = view.image_size or fixed
            views.append((tf.ensure_shape(crop, (side, side, self.pipeline.channels)), numbers_of(own), own))
        return tuple(views), label, sound

    def _augment(self, views, labels, sound, seed):
        """Augment and normalize a batch of results of `_crop`."""
        views, labels = _with_sound_images(views, labels, sound)
        codes = None
        if self.codes is not None:
            labels, codes = self.codes.classes_and_codes(labels)
        labels = tf.one_hot(labels, len(self.source.class_names))
        images = [view.of_images(*arrays) for view, arrays in zip(self.views, views, strict=True)]
        if len(images) > 1:
            return tuple(map(self.pipeline.normalized, images)), labels
        image, labels = self.views[0].of_batch(images[0], labels, seed)
        image = self.pipeline.normalized(image)
        return (image if codes is None else (image, codes)), labels


def _sound_places(sound):
    """Return the indices of the images in a batch that could be decoded."""
    places = tf.where(sound)[:, 0]
    with tf.control_dependencies([tf.debugging.Assert(tf.size(places) > 0, ["No image in a batch can be decoded."])]):
        return tf.identity(places)


def _with_sound_images(views, labels, sound):
    """Replace each image that could not be decoded with the next image that could."""

    def replaced():
        places = _sound_places(sound)
        following = tf.searchsorted(places, tf.range(tf.size(sound), dtype=tf.int64))
        chosen = tf.gather(places, following % tf.size(places))
        # Replace only the crops: each position keeps its random numbers and seed.
        crops = [tf.ensure_shape(tf.gather(crop, chosen), crop.shape) for crop, *_ in views]
        return crops, tf.ensure_shape(tf.gather(labels, chosen), labels.shape)

    crops, labels = tf.cond(tf.reduce_all(sound), lambda: ([crop for crop, *_ in views], labels), replaced)
    return [(crop, *draws) for crop, (_, *draws) in zip(crops, views, strict=True)], labels


def _once(source: Source, pipeline: Pipeline, corrupt: CorruptImages) -> tf.data.Dataset:
    """Return batches that contain each decodable image once, always in the same order."""
    crops = crops_of(source.read, [pipeline.evaluation_crop], corrupt, pipeline.channels)
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
