"""Load images from folders, one per class."""

import os
from pathlib import Path

from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test",)}


def image_folder(folder: str | os.PathLike, *, validation_fraction: float = 0.1, **pipeline) -> ImageData:
    """Load images from a folder that has one subfolder per class.

    The class folders are either directly in the folder, or in its subfolders `train`, `val` (or `validation`) and
    `test`; `val` and `test` are optional. Classes are sorted by name. Images may be at any depth in a class folder.

    Args:
        folder: Path of the folder.
        validation_fraction: Fraction of each class to use for validation if there is no validation folder.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If the folder has no class folders with images, a class has no image, or the validation or test
            images have a class that the training images don't have.
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
    """Return the images of a folder that has one subfolder per class.

    Args:
        folder: Path of the folder.
        class_names: Classes that the folder may have. If None, the names of its subfolders.

    Raises:
        ValueError: If the folder has no subfolders, no images, or a class that is not in `class_names`.
    """
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise ValueError(f"{str(folder)!r} has no subfolders; it needs one per class, with images in it.")
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
        raise ValueError(f"There are no images in {str(folder)!r}; file names must end in {', '.join(SUFFIXES)}.")
    # With relative names, a run can be resumed after its image folder has been moved.
    names = [os.path.relpath(path, folder) for path in paths]
    return ListSource(paths, labels, names, class_names, f"folder {folder.name}")
