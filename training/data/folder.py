"""Load images from folders, one per class."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_vit.training.data.image_data import ImageData, unknown_classes
from keras_vit.training.data.notes import examples, note
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource
from keras_vit.utils.missing import needs

_SPLITS = {
    split: re.compile(rf"({names})[-_ ]?(set|data|images)?", re.IGNORECASE)
    for split, names in {
        "train": "train|training|trn",
        "validation": "val|valid|validate|validation|dev|development|eval|evaluation",
        "test": "test|tests|testing|tst",
    }.items()
}

_ADJECTIVES = {"train": "training", "validation": "validation", "test": "test"}

# Files with these endings are used without looking into them; of all others, those that Pillow recognizes.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# What operating systems and tools leave in folders. Names that start with a dot are hidden and are left out too.
_SYSTEM_NAMES = {
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "system volume information",
    "thumbs.db",
}


def image_folder(
    folder: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    **pipeline,
) -> ImageData:
    """Load images from a folder that has one subfolder per class.

    The class folders are either directly in the folder, or in its subfolders for training, validation and test, which
    may have any of their usual names, such as `train`, `Training`, `val`, `valid`, `validation`, `dev`, `test` or
    `Testing`. Validation and test are optional. Images may be at any depth in a class folder. Every file in it that
    Pillow recognizes is used, whatever its ending; a line on standard error names others, and what was taken for what.
    Hidden files and system files, such as `Thumbs.db`, are left out.

    Args:
        folder: Path of the folder.
        class_names: Classes to use, in this order. They decide whether subfolders with the usual name of a split are
            classes. If None, the sorted names of the class folders of the training images.
        validation_fraction: Fraction of each class to use for validation if there is no validation folder.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If the folder has no class folders with images, it is unclear which subfolders are classes, a class
            has no image, or the validation or test images have a class that the training images don't have.
    """
    folder = existing_folder(folder)
    splits = find_splits(folder, class_names)
    if splits and "train" not in splits:
        raise ValueError(
            f"{str(folder)!r} has no folder of training images, only {_listed(splits.values())}. To train on one of "
            "these, pass its path; to measure a model on it, use training.evaluation_data."
        )
    train = folder_source(splits.get("train", folder), class_names).with_every_class()
    others = {split: folder_source(path, train.class_names) for split, path in splits.items() if split != "train"}
    note(_description(folder, splits, {"train": train, **others}, validation_fraction))
    if "validation" in others:
        validation = others["validation"]
    else:
        train, validation = train.split(validation_fraction)
    return image_data(train, validation, others.get("test"), **pipeline)


def existing_folder(folder: str | os.PathLike) -> Path:
    """Return the path of a folder.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"There is no folder {os.fspath(folder)!r}.")
    return Path(folder)


def find_splits(folder: Path, class_names: Sequence[str] | None = None) -> dict[str, Path]:
    """Return the folders for "train", "validation" and "test", or nothing if the folder has class folders itself.

    A folder with the usual name of a split is one if it has folders of images in it, and a class if it has images in it
    directly.

    Args:
        folder: Path of the folder.
        class_names: Names of the classes, if they are known. They decide where both is possible.

    Raises:
        ValueError: If it is unclear which subfolders are splits and which are classes. The message says what would do.
    """
    found, _ = _contents(folder)
    if class_names is not None and set(class_names) <= set(found):
        return {}
    named: dict[str, list[Path]] = {}
    for name, path in found.items():
        if split := split_of(name):
            named.setdefault(split, []).append(path)
    every = [path for paths in named.values() for path in paths]
    splits = [path for path in every if _holds_folders_of_images(path)]
    flat = [path for path in every if path not in splits and _has_image(path)]
    others = [path for path in found.values() if path not in every and _has_image_below(path)]
    if not splits:
        if flat and not others:
            raise ValueError(
                f"{_listed(flat)} in {str(folder)!r} have images, but no class folders. Put the images into one folder "
                f"per class, such as {flat[0].name}/cat; list them in a CSV file (training.csv_images); or, if these "
                f"are the classes, pass class_names={[path.name for path in flat]}."
            )
        return {}  # A class folder may have the name of a split.
    for paths in named.values():
        if len(paths) > 1 and len(of_split := [path for path in paths if path in splits]) > 1:
            raise ValueError(
                f"{str(folder)!r} has several folders for the same images: {_listed(of_split)}. Keep one of them."
            )
    kinds = {split: path for split, paths in named.items() for path in paths if path in splits}
    if others and not ("train" in kinds and len(kinds) > 1):
        one = splits[0]
        raise ValueError(
            f"{str(folder)!r} has the folders {_listed([*splits, *others])}, and {one.name!r} could be a class or the "
            f"{_ADJECTIVES[next(iter(kinds))]} images of the classes {_listed(_contents(one)[0])}. If it is a class, "
            f"pass class_names={sorted(path.name for path in [*every, *others])}. If not, pass {str(one)!r}, or move "
            f"{_listed(others)} out of the folder{'' if 'train' in kinds else ' or into a folder train'}."
        )
    if left := [*flat, *others]:
        note(
            f"{folder.name}: {_listed(left)} {'is' if len(left) == 1 else 'are'} not used, because the classes are in "
            f"the folders {_listed(splits)}."
        )
    return kinds


def split_of(name: str) -> str | None:
    """Return "train", "validation" or "test" for one of the usual names of a split in any case, and None otherwise."""
    return next((split for split, pattern in _SPLITS.items() if pattern.fullmatch(name)), None)


def folder_source(folder: Path, class_names: Sequence[str] | None = None) -> ListSource:
    """Return the images of a folder that has one subfolder per class.

    Args:
        folder: Path of the folder.
        class_names: Classes that the folder may have. If None, the names of its subfolders.

    Raises:
        ValueError: If the folder has no subfolders, no images, or a class that is not in `class_names`.
    """
    found, loose = _contents(folder)
    if not found:
        raise ValueError(f"{str(folder)!r} has no subfolders; it needs one per class, with images in it.")
    if class_names is None:
        class_names = tuple(found)
        _check_classes(folder, found)
    else:
        class_names = tuple(unicodedata.normalize("NFC", str(name)) for name in class_names)
    # A folder without images, such as one of annotations, is no unknown class.
    if unknown := [name for name in found if name not in class_names and _has_image_below(found[name])]:
        raise ValueError(unknown_classes(repr(str(folder)), unknown, class_names))
    paths, labels, left = [], [], [os.path.join(folder, file) for file in loose]
    for label, name in enumerate(class_names):
        own = []
        for path in _files_below(found[name]) if name in found else ():
            (own if _is_image(path) else left).append(path)
        paths += sorted(own)
        labels += [label] * len(own)
    if left:
        _note_left_out(folder, [os.path.relpath(path, folder) for path in left])
    if not paths:
        raise ValueError(f"There are no images in {str(folder)!r}: no file in its class folders is one.")
    # With relative names, a run can be resumed after its image folder has been moved.
    names = [os.path.relpath(path, folder) for path in paths]
    return ListSource(paths, labels, names, class_names, f"folder {folder.name}")


def _check_classes(folder, found):
    """Check that the subfolders are classes rather than a folder around them, or splits within classes."""
    if len(found) == 1:
        (path,) = found.values()
        inner, _ = _contents(path)
        if inner and not _has_image(path):
            raise ValueError(
                f"{str(folder)!r} has a single subfolder {path.name!r}, with the folders {_listed(inner)} in it. Pass "
                f"{str(path)!r} if these are the classes."
            )
    for path in found.values():
        inner, _ = _contents(path)
        kinds = {split_of(name) for name in inner} - {None}
        if len(kinds) > 1 and not _has_image(path):
            raise ValueError(
                f"The class folder {str(path)!r} has the folders {_listed(inner)}. Put the class folders into these, "
                f"such as {next(iter(inner))}/{path.name}, so that test images are not used for training."
            )


def _contents(folder) -> tuple[dict[str, Path], list[str]]:
    """Return the subfolders by name, sorted, and the names of the files, without hidden and system ones."""
    folders, files = {}, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                # macOS may store an accented letter as two characters; the same class must have the same name.
                folders[unicodedata.normalize("NFC", entry.name)] = Path(entry.path)
            else:
                files.append(entry.name)
    return dict(sorted(folders.items())), sorted(files)


def _is_hidden(name):
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _files_below(folder) -> Iterator[str]:
    """Yield the paths of the files at any depth, without hidden and system ones. Links to folders are followed."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # A link to a folder around it.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (os.path.join(place, name) for name in sorted(files) if not _is_hidden(name))


def _is_image(path) -> bool:
    if path.lower().endswith(ENDINGS):
        return True
    with needs("Pillow", "decoding images", "train"):
        from PIL import Image
    try:
        with Image.open(path):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _has_image(folder) -> bool:
    return any(_is_image(os.path.join(folder, name)) for name in _contents(folder)[1])


def _has_image_below(folder) -> bool:
    return any(map(_is_image, _files_below(folder)))


def _holds_folders_of_images(folder) -> bool:
    return any(map(_has_image_below, _contents(folder)[0].values()))


def _note_left_out(folder, names):
    apple = any(name.lower().endswith((".heic", ".heif")) for name in names)
    hint = " Convert HEIC images, or call pillow_heif.register_heif_opener() first." if apple else ""
    note(
        f"{folder.name}: {len(names)} file{'s are' if len(names) > 1 else ' is'} not used, because Pillow does not "
        f"recognize {'them' if len(names) > 1 else 'it'} as an image or the file is in no class folder: "
        f"{examples(names)}.{hint}"
    )


def _description(folder, splits, sources, validation_fraction):
    train = sources["train"]
    counts = ", ".join(
        f"{source.size} {_ADJECTIVES[split]} images" + (f" in {splits[split].name}" if splits else "")
        for split, source in sources.items()
    )
    rest = "" if "validation" in sources else f"; {validation_fraction:.0%} of each class are for validation"
    return f"{folder.name}: {counts}; {len(train.class_names)} classes ({examples(list(train.class_names), 5)}){rest}"


def _listed(paths):
    return examples([path.name if isinstance(path, Path) else str(path) for path in paths], 10)
