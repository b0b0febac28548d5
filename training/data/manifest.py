"""Load images listed in CSV files."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource

_HEADER = ["path", "label"]


def csv_images(
    train: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    **pipeline,
) -> ImageData:
    """Load images listed in CSV files with two columns: image path and label.

    Paths are relative to the CSV file. The first row may be the header "path,label". Labels are class names, or
    numbers that count from 0.

    Args:
        train: CSV file of the training images.
        validation: CSV file of the validation images.
        class_names: Name of each class. If None, the sorted labels of the training images, or the numbers from 0 to
            the highest label if all labels are numbers.
        validation_fraction: Fraction of each class to use for validation if `validation` is None.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        FileNotFoundError: If a CSV file or an image is missing.
        ValueError: If a row does not have two columns, a label is not a class, or a class has no image.
    """
    rows = _rows(Path(train))
    class_names = tuple(class_names or _classes(rows))
    source = _source(Path(train), rows, class_names).with_every_class()
    if validation is None:
        sources = source.split(validation_fraction)
    else:
        sources = source, _source(Path(validation), _rows(Path(validation)), class_names)
    return image_data(*sources, **pipeline)


def _rows(file):
    """Return the line number, path and label of each row."""
    rows = []
    with open(file, newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text)
        try:
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not cells or (not rows and cells == _HEADER):
                    continue
                if len(cells) != 2 or not all(cells):
                    raise ValueError(
                        f"{file}, line {reader.line_num}: a row must be a path and a label; received {row}."
                    )
                rows.append((reader.line_num, *cells))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file}, line {reader.line_num + 1}: not a valid CSV row ({error}).") from error
    if not rows:
        raise ValueError(f"There are no images in {str(file)!r}.")
    return rows


def _classes(rows):
    labels = {label for _, _, label in rows}
    if all(label.isdecimal() for label in labels):
        return [str(number) for number in range(max(map(int, labels)) + 1)]
    return sorted(labels)


def _source(file, rows, class_names):
    places = {name: place for place, name in enumerate(class_names)}
    labels = []
    for line, path, label in rows:
        number = places.get(label, int(label) if label.isdecimal() else -1)
        if not 0 <= number < len(class_names):
            raise ValueError(f"{file}, line {line}: {label!r} is not one of the {len(class_names)} classes.")
        if not (file.parent / path).is_file():
            raise FileNotFoundError(f"{file}, line {line}: there is no image {path!r}.")
        labels.append(number)
    names = [path for _, path, _ in rows]
    return ListSource([str(file.parent / name) for name in names], labels, names, class_names, f"manifest {file.name}")
