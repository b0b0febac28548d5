"""Load images listed in CSV files."""

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_vit.training.data.folder import ENDINGS, split_of
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.labels import Classes
from keras_vit.training.data.notes import note
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource

# The usual headings of the columns, without spaces, dashes and underscores. Of several columns, the first one counts.
_PATHS = (
    *("path", "filepath", "imagepath", "imgpath", "relativepath", "filename", "filenames", "imagename", "imgname"),
    *("imagefile", "file", "files", "image", "images", "img", "picture", "photo", "fname", "name"),
    *("imageid", "imgid", "fileid", "id"),
)
_LABELS = (
    *("label", "labels", "labelname", "class", "classname", "classlabel", "category", "categoryname"),
    *("target", "targets", "y", "species", "breed", "tag", "labelid", "classid", "categoryid"),
)
_SPLITS = ("split", "datasplit", "subset", "set", "partition")

_DELIMITERS = ("\t", ";", ",", "|", " ")


class _Row(NamedTuple):
    """One image of a list: its line in the file, and its cells."""

    line: int
    path: str
    label: str
    split: str  # "train" in a list without a column for the split.


def csv_images(
    train: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    *,
    folder: str | os.PathLike | None = None,
    class_names: Sequence[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    validation_fraction: float = 0.1,
    **pipeline,
) -> ImageData:
    """Load images listed in CSV files.

    A row has the path of an image and its label, and may say whether the image is for training, validation or test.
    The first row may name the columns by any of the usual headings, such as `image`, `filename` or `image_id`, `label`,
    `class` or `category`, and `split`; other columns are then ignored. Without headings, the columns are the path and
    the label. Columns may be separated by commas, semicolons, tabs, vertical bars or single spaces. The text may be in
    UTF-8, UTF-16 or Windows-1252. A line on standard error says how a file was understood.

    Args:
        train: CSV file of the training images.
        validation: CSV file of the validation images.
        folder: Folder that paths are relative to. If None, that of the CSV file. Paths may lack the ending of the file.
        class_names: Name of each class. Labels are then names, or numbers of classes that count from 0, or from 1 if
            the highest label is the number of classes. If None, the sorted labels of the training images.
        path_column: Heading of the column with the paths, if it is not one of the usual headings.
        label_column: Heading of the column with the labels, likewise.
        validation_fraction: Fraction of each class to use for validation if there are no validation images.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        FileNotFoundError: If a CSV file or an image is missing.
        ValueError: If the columns are unclear, a row lacks a cell, a label is not a class, or a class has no image.
    """
    columns = path_column, label_column
    sources, classes = _listed(train, folder, class_names, columns)
    if "train" not in sources:
        raise ValueError(f"{os.fspath(train)} lists no training images, only those for {', '.join(sources)}.")
    source = sources["train"].with_every_class()
    if validation is not None:
        if "validation" in sources:
            raise ValueError(
                f"{os.fspath(train)} lists validation images too; leave out validation={os.fspath(validation)!r} or "
                "these rows."
            )
        rows = _rows(Path(validation), columns)
        sources["validation"] = _source(Path(validation), rows, folder, classes, "manifest")
    if "validation" not in sources:
        source, sources["validation"] = source.split(validation_fraction)
    return image_data(source, sources["validation"], sources.get("test"), **pipeline)


def list_sources(
    file: str | os.PathLike,
    folder: str | os.PathLike | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, ListSource]:
    """Return the images for "train", "validation" and "test" that a CSV file lists.

    Without a column for the split, all images are for "train". The arguments and errors are those of `csv_images`.
    """
    return _listed(file, folder, class_names, (None, None))[0]


def _listed(file, folder, class_names, columns) -> tuple[dict[str, ListSource], Classes]:
    """Return the images of each split, and the classes that number the labels of further lists."""
    file = Path(file)
    rows = _rows(file, columns)
    by_split = {split: [row for row in rows if row.split == split] for split in ("train", "validation", "test")}
    by_split = {split: own for split, own in by_split.items() if own}
    # The training images define the classes; a list of test images alone, those of its own.
    first = next(iter(by_split.values()))
    classes = Classes([row.label for row in first], class_names, str(file), lambda index: f"line {first[index].line}")
    if len(by_split) > 1:
        note(f"{file.name}: " + ", ".join(f"{len(own)} {split} images" for split, own in by_split.items()))
    sources = {
        split: _source(file, own, folder, classes, "manifest" if len(by_split) == 1 else f"{split} images of manifest")
        for split, own in by_split.items()
    }
    return sources, classes


def _source(file, rows, folder, classes, origin) -> ListSource:
    numbers = classes.numbers_of([row.label for row in rows], str(file), lambda index: f"line {rows[index].line}")
    folder = file.parent if folder is None else Path(folder)
    paths = [_image(file, row, folder) for row in rows]
    return ListSource(paths, numbers, [row.path for row in rows], classes.names, f"{origin} {file.name}")


def _image(file, row, folder) -> str:
    """Return the path of the image of a row, which may be written with backslashes or without its ending."""
    for path in (row.path, row.path.replace("\\", "/")):
        if (folder / path).is_file():
            return str(folder / path)
        endings = [*ENDINGS, *map(str.upper, ENDINGS)]
        found = {str(folder / f"{path}{ending}") for ending in endings if (folder / f"{path}{ending}").is_file()}
        if len(found) > 1:
            raise ValueError(f"{file}, line {row.line}: {row.path!r} could be {' or '.join(sorted(found))}.")
        if found:
            return found.pop()
    hint = ""
    if row.line == 1:
        hint = " If the first row names the columns, pass path_column and label_column."
    raise FileNotFoundError(
        f"{file}, line {row.line}: there is no image {row.path!r} in {str(folder)!r}.{hint} Pass folder=... if the "
        "paths are relative to another folder."
    )


def _rows(file: Path, columns) -> list[_Row]:
    """Return the images that a file lists."""
    text = _text(file)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " ")
    places, named, rows = None, False, []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if places is None:
                places = _columns(file, cells, *columns)
                if named := places is not None:
                    continue
                places = {"path": 0, "label": 1}
            if len(cells) <= max(places.values()) or (not named and len(cells) > 2):
                raise ValueError(
                    f"{file}, line {reader.line_num}: a row must be a path and a label; received {row}. If there are "
                    "further columns, the first row must name all of them, such as path,label,split."
                )
            found = {name: cells[place] for name, place in places.items()}
            if not found["path"] or not found["label"]:
                raise ValueError(
                    f"{file}, line {reader.line_num}: a row must be a path and a label, and one is empty; "
                    f"received {row}."
                )
            split = split_of(found["split"]) if "split" in found else "train"
            if split is None:
                raise ValueError(
                    f"{file}, line {reader.line_num}: {found['split']!r} is no split; it must be train, validation or "
                    "test."
                )
            rows.append(_Row(reader.line_num, found["path"], found["label"], split))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num + 1}: not a valid CSV row ({error}).") from error
    if not rows:
        raise ValueError(f"There are no images in {str(file)!r}.")
    return rows


def _columns(file, cells, path_column, label_column) -> dict[str, int] | None:
    """Return the places of the columns if the first row names them."""
    names = [re.sub(r"[\s_-]", "", cell).lower() for cell in cells]

    def place(known, given, kind):
        if given is not None:
            if given not in cells:
                raise ValueError(f"{file} has no column {given!r} for the {kind}; it has {', '.join(cells)}.")
            return cells.index(given)
        return next((names.index(name) for name in known if name in names), None)

    path = place(_PATHS, path_column, "paths")
    label = place(_LABELS, label_column, "labels")
    if path is None and label is None:
        return None
    if len(cells) == 2 and label is None and path is not None:
        label = 1 - path
    if len(cells) == 2 and path is None and label is not None:
        path = 1 - label
    if path is None or label is None or path == label:
        missing = "path_column" if path is None else "label_column"
        raise ValueError(
            f"{file}: it is unclear which column has the {'paths' if path is None else 'labels'}. Pass {missing}, one "
            f"of {', '.join(cells)}."
        )
    places = {"path": path, "label": label}
    if (split := place(_SPLITS, None, "split")) is not None:
        places["split"] = split
    if cells != ["path", "label"]:
        note(f"{file.name}: " + ", ".join(f"column {cells[at]!r} has the {name}" for name, at in places.items()))
    return places


def _text(file: Path) -> str:
    content = file.read_bytes()
    encodings = ["utf-8-sig"]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in content[:200]:
        encodings = ["utf-16-le" if content[1:2] == b"\0" else "utf-16-be"]
    elif content:
        encodings += ["cp1252", "latin-1"]
    error = None
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as failure:
            error = error or failure
            continue
        if encoding != "utf-8-sig":
            note(f"{file.name}: the text is not UTF-8; it was read as {encoding}.")
        return text
    raise ValueError(f"{file} is not a text in UTF-8, UTF-16 or Windows-1252: {error}.") from error


def _delimiter(text: str) -> str:
    """Return the first delimiter that gives the first lines the same number of cells, at least two; or a comma."""
    lines = [line for line in text.splitlines() if line.strip()][:20]
    for delimiter in _DELIMITERS:
        counts = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    return ","
