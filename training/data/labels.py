"""Turn labels as people have them into class numbers that count from 0."""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from keras_vit.training.data.image_data import only_count
from keras_vit.training.data.notes import examples, note


class Classes:
    """The classes of the training labels, which number further labels in the same way.

    Labels may be integers, whole floats, booleans, strings, or one-hot rows. Strings of digits count as integers.
    Without class names, the classes are the sorted values, and their names are these values. With class names, a label
    is the name of a class. If all names are words, or only count from 0, a label may also be the number of a class,
    which counts from 0, or from 1 if the highest label is the number of classes. If other numbers are among the names,
    as in "1", "10", "2", an integer is always a name. A one-hot row always has its columns in the order of the classes.

    Args:
        labels: The training labels, of shape (images,), (images, 1) or (images, classes).
        class_names: Name of each class, or None.
        origin: Where the labels come from, in messages.
        row: Function that names a row in messages, from its index.

    Attributes:
        names: Name of each class.
        numbers: Class number of each training label, int64 of shape (images,).

    Raises:
        ValueError: If a label is none of these, or not one of the classes. The message names the row.
    """

    def __init__(self, labels, class_names: Sequence[str] | None, origin: str, row: Callable[[int], str]):
        self._origin = origin
        self._places: dict[int | str, int] = {}
        keys, columns = self._keys(labels, row)
        if class_names is not None:
            self.names = tuple(unicodedata.normalize("NFC", str(name)) for name in class_names)
            if len(set(self.names)) < len(self.names):
                raise ValueError(f"Class names must differ; received {examples(list(self.names), 10)}.")
            if not columns:
                self._places |= {name: place for place, name in enumerate(self.names)}
            if columns or only_count(self.names) or not any(isinstance(_key(name), int) for name in self.names):
                integers = [key for key in keys if isinstance(key, int)]
                first = int(bool(integers) and min(integers) >= 1 and max(integers) == len(self.names))
                if first:
                    self._note_numbers(range(1, len(self.names) + 1))
                self._places |= {place + first: place for place in range(len(self.names))}
        else:
            values = list(range(columns)) if columns else sorted(set(keys))
            if isinstance(values[0], int) and values[0] < 0:
                raise ValueError(
                    f"{origin}, {row(keys.index(values[0]))}: the label {values[0]} is negative. Leave out images "
                    "without a label, or pass class_names."
                )
            if isinstance(values[0], int) and values != list(range(len(values))):
                self._note_numbers(values)
            is_boolean = np.asarray(labels).dtype.kind == "b"
            self.names = tuple(str(bool(value)) if is_boolean else str(value) for value in values)
            self._places |= {value: place for place, value in enumerate(values)}
        if columns and columns != len(self.names):
            raise ValueError(
                f"{origin}: the labels have {columns} columns, but there are {len(self.names)} class names."
            )
        self.numbers = self._numbers(keys, origin, row)

    def numbers_of(self, labels, origin: str, row: Callable[[int], str]) -> np.ndarray:
        """Return the class numbers of further labels, such as those of the validation images.

        Raises:
            ValueError: If a label is not one of the classes. The message names the row.
        """
        keys, columns = self._keys(labels, row, origin)
        if columns and columns != len(self.names):
            raise ValueError(f"{origin}: the labels have {columns} columns, but there are {len(self.names)} classes.")
        return self._numbers(keys, origin, row)

    def _numbers(self, keys, origin, row):
        for index, key in enumerate(keys):
            if self._place(key) is None:
                near = [name for name in self.names if name.casefold() == str(key).casefold()]
                raise ValueError(
                    f"{origin}, {row(index)}: the label {key!r} is not one of the {len(self.names)} classes: "
                    f"{examples(list(self.names), 10)}." + (f" Did you mean {near[0]!r}?" if near else "")
                )
        return np.array([self._place(key) for key in keys], "int64")

    def _place(self, key):
        return self._places.get(key, self._places.get(str(key)))

    def _note_numbers(self, values):
        pairs = [f"{value} -> {place}" for place, value in enumerate(values)]
        note(f"{self._origin}: the labels don't count from 0. Label -> column of the scores: {examples(pairs, 10)}.")

    def _keys(self, labels, row, origin=None):
        """Return the labels as a list of integers or strings, and the number of columns of one-hot labels."""
        origin = origin or self._origin
        array = np.asarray(labels)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim == 2:
            return self._of_one_hot(array, row, origin), array.shape[1]
        if array.ndim != 1:
            raise ValueError(
                f"{origin}: labels must have the shape (images,), (images, 1) or (images, classes); "
                f"received {array.shape}."
            )
        keys = [_key(value) for value in array.tolist()]
        for index, key in enumerate(keys):
            if key is None:
                raise ValueError(
                    f"{origin}, {row(index)}: the label {array[index]!r} is no class. Labels are integers, strings or "
                    "one-hot rows. A model with other targets trains on a tf.data.Dataset or on arrays, which "
                    "training.fit takes together with loss=..."
                )
        kinds = {type(key) for key in keys}
        # Some names may be numbers, such as the classes "7" and "seven".
        return ([str(key) for key in keys] if len(kinds) > 1 else keys), 0

    @staticmethod
    def _of_one_hot(array, row, origin):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{origin}: labels with {array.shape[1]} columns must be one-hot; received {array.dtype}.")
        wrong = np.flatnonzero(((array != 0) & (array != 1)).any(axis=1) | (array.sum(axis=1) != 1))
        if wrong.size:
            raise ValueError(
                f"{origin}, {row(int(wrong[0]))}: a one-hot label has a single 1; received {array[wrong[0]].tolist()}. "
                "A model with several labels per image trains on a tf.data.Dataset or on arrays, which training.fit "
                "takes together with loss=..."
            )
        return array.argmax(axis=1).tolist()


def _key(value) -> int | str | None:
    """Return a label as an integer or a string, or None if it is neither."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value.strip())
        return int(text) if text.isdecimal() and text == str(int(text)) else text or None
    if isinstance(value, int):
        return int(value)  # A boolean, too.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None
