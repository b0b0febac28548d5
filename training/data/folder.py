"""Images in folders, one for each class."""

import os
from pathlib import Path

from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test",)}


def image_folder(folder: str | os.PathLike, *, validation_fraction: float = 0.1, **pipeline) -> ImageData:
    """Load images from a folder that has a folder for each class.

    The class folders stand in the folder itself or in its folders `train`, `val` (or `validation`) and `test`, of
    which only the first is needed. Classes are sorted by name, and within them images of any depth.

    Args:
        folder: Its path.
        validation_fraction: Part of each class to validate on, where there is no folder for it.
        pipeline: Arguments of `Pipeline`.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: It holds no folders of images, a class has no image, or validation or test images are of classes
            that are not in training.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"There is no folder {str(folder)!r}.")
    parts = {
        part: next((folder / name for name in names if (folder / name).is_dir()), None)
        for part, names in _PARTS.items()
    }
    if parts["train"] is None:
        parts = {"validation": None, "test": None}
    train = folder_source(parts.get("train") or folder).with_every_class()
    if parts["validation"] is None:
        train, validation = train.split(validation_fraction)
    else:
        validation = folder_source(parts["validation"], train.class_names)
    test = folder_source(parts["test"], train.class_names) if parts["test"] is not None else None
    return image_data(train, validation, test, **pipeline)


def folder_source(folder: Path, class_names: tuple[str, ...] | None = None) -> ListSource:
    """Return the images of a folder of class folders; `class_names` are the classes that it may have.

    Raises:
        ValueError: See `image_folder`.
    """
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise ValueError(f"{str(folder)!r} holds no folders; it needs one for each class, with images in it.")
    class_names = class_names or tuple(found)
    if unknown := sorted(set(found) - set(class_names)):
        raise ValueError(f"{str(folder)!r} has classes that the training images don't have: {', '.join(unknown[:10])}.")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        own = sorted(
            os.path.join(place, file)
            for place, _, files in os.walk(folder / name)
            for file in files
            if file.lower().endswith(SUFFIXES)
        )
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise ValueError(f"There are no images in {str(folder)!r}; files end in {', '.join(SUFFIXES)}.")
    # Relative names keep a run the same when its images are moved as a whole.
    names = [os.path.relpath(path, folder) for path in paths]
    return ListSource(paths, labels, names, class_names, f"folder {folder.name}")
