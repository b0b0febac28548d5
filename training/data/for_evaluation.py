"""Load labeled images that are all for evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_vit.training.data.folder import existing_folder, find_splits, folder_source
from keras_vit.training.data.image_data import ImageData, only_count
from keras_vit.training.data.manifest import list_sources
from keras_vit.training.data.notes import note
from keras_vit.training.data.open import LISTS, SOURCES, open_data
from keras_vit.training.data.pipeline import evaluation_batches
from keras_vit.training.data.source import ListSource
from keras_vit.training.lazy_modules import tf

SPLITS = ("test", "validation", "train", "all")


@dataclass(frozen=True)
class EvaluationData:
    """Labeled images that are all for evaluation.

    Attributes:
        class_names: Name of each class, in the order of the columns of the labels.
        batches: Batches (images, labels) that contain each image once; labels are one-hot of shape (batch, classes).
        images: Number of images, or None if it is not known.
        split: Which images of the source these are: "test", "validation", "train" or "all".
    """

    class_names: tuple[str, ...]
    batches: tf.data.Dataset
    images: int | None
    split: str


def evaluation_data(
    source: str | os.PathLike,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    trained_on: Mapping | None = None,
    **pipeline,
) -> EvaluationData:
    """Load images to evaluate a model on. There need not be training images, nor a full batch.

    Args:
        source: A folder of class folders, or any other source that `open_data` takes.
        split: Which images to load. If None, the test images if the source has any, or else the validation images, or
            else all. "all" loads those of a folder of class folders or a CSV file that has no splits.
        class_names: Classes of the images, in the order of the columns of the labels, such as `keras_vit.class_names`
            of the model. A class without images is allowed. If None, those that the source has.
        trained_on: Settings of the data that the model was trained on, as `ImageData.settings` and run.json have them.
            If that was a part of this folder or CSV file, the default is the other part: its validation images.
        pipeline: Arguments of `Pipeline`.

    Returns:
        The images, for `evaluate`.

    Raises:
        ValueError: If the source does not have these images, or has classes that are not in `class_names`.
        OSError: If the source can't be read.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; received {split!r}.")
    source = os.fspath(source)
    if class_names is not None and only_count(class_names):
        class_names = None  # They name nothing; `evaluate` matches them by their order.
    if os.path.isdir(source):
        parts = _folder_parts(source, class_names)
    elif source.lower().endswith(LISTS):
        parts = dict(list_sources(source, class_names=class_names))
        if list(parts) == ["train"]:
            parts = {"all": parts["train"]}
    else:
        return _of_image_data(open_data(source, **pipeline), split)
    return _of_parts(source, parts, split, trained_on, pipeline)


def _folder_parts(source, class_names) -> dict[str, ListSource]:
    folder = existing_folder(source)
    splits = find_splits(folder, class_names)
    if not splits:
        return {"all": folder_source(folder, class_names)}
    if class_names is None and "train" in splits:
        class_names = folder_source(splits["train"]).class_names
    return {split: folder_source(path, class_names) for split, path in splits.items()}


def _of_parts(source, parts, split, trained_on, pipeline) -> EvaluationData:
    if split is None:
        split = next((name for name in ("test", "validation", "all") if name in parts), "validation")
        if split == "all" and (validation := _validation_part(parts["all"], trained_on or {})):
            split, parts = "validation", {"validation": validation}
    if split == "validation" and split not in parts and (whole := parts.get("train") or parts.get("all")):
        _, parts["validation"] = whole.split(0.1)  # As for training.
    if split == "all" and split not in parts and len(parts) == 1:
        parts = {"all": next(iter(parts.values()))}
    if split not in parts:
        has = ", ".join(f"{name} images" for name in parts if name != "all") or "no splits"
        raise ValueError(f"{source!r} has no {split} images; it has {has}. Choose another split.")
    chosen = parts[split]
    return EvaluationData(chosen.class_names, evaluation_batches(chosen, **pipeline), chosen.size, split)


def _validation_part(source, trained_on) -> ListSource | None:
    """Return the validation images of a source if a model was trained on its other images."""
    used, rest = (trained_on.get(part, {}) for part in ("train", "validation"))
    images = used.get("images", 0) + rest.get("images", 0)
    if images != source.size or not str(used.get("source", "")).startswith(f"{source.origin}, "):
        return None
    for fraction in (0.1, rest["images"] / images):
        train, validation = source.split(fraction)
        if train.settings["digest"] == used.get("digest"):
            return validation
    note(f"The model was trained on a part of the images in {source.origin}; all of them are measured.")
    return None


def _of_image_data(data: ImageData, split) -> EvaluationData:
    if split is None:
        split = "test" if data.test is not None else "validation"
    batches = {"test": data.test, "validation": data.validation}.get(split)
    if batches is None:
        has = "validation" if data.test is None else "test and validation"
        raise ValueError(f"This source has no {split} images for evaluation; it has {has} images ({SOURCES}).")
    return EvaluationData(data.class_names, batches, None, split)
