"""Images in TFRecord files: reading them, and writing them from a folder."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit.training.data.decode import Content, CorruptImages, open_image
from keras_vit.training.data.folder import folder_source
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import drawn_from_a_stream
from keras_vit.training.lazy_modules import keras, tf
from keras_vit.utils.files import replacing

_FILES_AT_ONCE = 16


class RecordSource:
    """Images in TFRecord files, read one after the other, several files at once.

    The order is that of the files, drawn anew in each epoch, and then of a buffer of records. Several workers have
    files of their own where there are enough.

    Args:
        files: Paths, local or of Google Cloud Storage.
        counts: Number of records of each.
        class_names: One name a class.
        first_label: The number of the first class in the files.
        buffer: Records from which the next one is drawn.
        origin: Whence they come, for `settings`.
    """

    def __init__(
        self,
        files: Sequence[str],
        counts: Sequence[int],
        class_names: Sequence[str],
        first_label: int,
        buffer: int,
        origin: str,
    ):
        self.files, self.counts = np.array(files), np.array(counts)
        self.class_names = tuple(class_names)
        self.first_label, self.buffer, self.origin = first_label, buffer, origin
        self.size = int(self.counts.sum())
        if not self.size:
            raise ValueError(f"There are no records in {origin}.")

    @property
    def settings(self) -> dict:
        return {
            "source": self.origin,
            "files": len(self.files),
            "images": self.size,
            "first_label": self.first_label,
            "buffer": self.buffer,
        }

    def references(self, seed: int | None, repeats: int, workers: int, worker: int) -> tf.data.Dataset:
        files = self.files
        if len(files) >= workers:
            files, workers, worker = files[worker::workers], 1, 0
        if seed is not None:
            files = np.random.default_rng(seed).permutation(files)

        def records(file):
            return tf.data.TFRecordDataset(file).enumerate().map(lambda number, record: (record, file, number))

        found = tf.data.Dataset.from_tensor_slices(files).interleave(
            records, cycle_length=_FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return drawn_from_a_stream(found, self.buffer, seed, repeats, workers, worker)

    def read(self, record: bytes, file: bytes, number: int) -> tuple[Content, int, str]:
        name = f"{file.decode()}, record {number}"
        features = tf.train.Example.FromString(record).features.feature
        contents, labels = features["image/encoded"].bytes_list.value, features["image/class/label"].int64_list.value
        if not contents or not labels:
            raise ValueError(f"{name} has no image/encoded or no image/class/label; it has {', '.join(features)}.")
        label = labels[0] - self.first_label
        if not 0 <= label < len(self.class_names):
            raise ValueError(
                f"{name} has the label {labels[0]}; the {len(self.class_names)} classes have the labels "
                f"{self.first_label} to {self.first_label + len(self.class_names) - 1}."
            )
        return contents[0], label, name


def tfrecords(
    train: str,
    validation: str,
    *,
    class_names: Sequence[str] | None = None,
    first_label: int = 0,
    shuffle_buffer: int = 4096,
    **pipeline,
) -> ImageData:
    """Load images from TFRecord files with the features `image/encoded` and `image/class/label`.

    Args:
        train: A pattern of the files of the training images, such as "records/train-*", local or "gs://...".
        validation: That of the validation images.
        class_names: One name a class. When left out, those that `write_tfrecords` wrote beside the files.
        first_label: The number of the first class; ImageNet's usual files count from 1.
        shuffle_buffer: Training records in memory, from which the next one is drawn.
        pipeline: Arguments of `Pipeline`.

    Raises:
        FileNotFoundError: No file matches, or class names are neither given nor beside the files.
        ValueError: There are no records, or a file is damaged.
    """
    sources = []
    for pattern in (train, validation):
        files = sorted(name for name in tf.io.gfile.glob(pattern) if not name.endswith(".json"))
        if not files:
            raise FileNotFoundError(f"No file matches {pattern!r}.")
        index = _index(files[0])
        if class_names is None and index is None:
            raise FileNotFoundError(f"There is no {_index_of(files[0])!r} with the names of the classes; pass them.")
        names = class_names if class_names is not None else index["class_names"]
        counts = [(index or {}).get("records", {}).get(file.rsplit("/", 1)[-1]) for file in files]
        counts = [_count(file) if count is None else count for file, count in zip(files, counts, strict=True)]
        origin = f"records {pattern.rsplit('/', 1)[-1]}"
        sources.append(RecordSource(files, counts, names, first_label, shuffle_buffer, origin))
    return image_data(sources[0], sources[1], **pipeline)


def _index_of(file):
    """Return records/train.json for records/train-00003-of-00016."""
    return f"{file.rsplit('-', 3)[0]}.json"


def _index(file):
    path = _index_of(file)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as text:
        return json.load(text)


def _count(file):
    """Count the records of a file from their lengths alone."""
    count, place = 0, 0
    with tf.io.gfile.GFile(file, "rb") as records:
        end = records.size()
        while place < end:
            # Eight bytes of length, four of a checksum, the record, and four of another.
            records.seek(place)
            header = records.read(8)
            place += 16 + struct.unpack("<Q", header)[0] if len(header) == 8 else end
            count += 1
    if place > end:
        raise ValueError(f"{file!r} is damaged, or no TFRecord file: it ends within record {count - 1}.")
    return count


def write_tfrecords(
    folder: str | Path,
    output: str | Path,
    *,
    name: str = "train",
    shards: int = 16,
    seed: int = 0,
    max_corrupt: int = 10,
    verbose: bool = True,
) -> list[Path]:
    """Write the images of a folder of class folders to TFRecord files.

    Files are called train-00000-of-00016 and so on, and are written beside their place and then moved: one that is
    there is whole. Called again after an interruption, it goes on with the next file. Images are copied, not
    compressed anew; each is decoded once to see that it can be. `NAME.json` gets the names of the classes and the
    number of records in each file.

    Args:
        folder: Holds a folder for each class.
        output: Folder for the files.
        name: First part of the files' names.
        shards: Number of files.
        seed: Of the order in which the images are mixed.
        max_corrupt: As many images that can't be decoded are left out; each is logged.
        verbose: Show the progress.

    Returns:
        Paths of the files.

    Raises:
        ValueError: The folder's images are not as `image_folder` wants them, or too many are corrupt.
        FileExistsError: The output has files of other images.
    """

    source = folder_source(Path(folder))
    if not 1 <= shards <= source.size:
        raise ValueError(f"shards must be between 1 and {source.size}, the number of images; received {shards}.")
    output = Path(output)
    order = np.random.default_rng(seed).permutation(source.size)
    files = [output / f"{name}-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    index_path = output / f"{name}.json"
    made_of = hashlib.sha256(json.dumps([source.settings, shards, seed]).encode()).hexdigest()
    index: dict[str, Any] = {"class_names": list(source.class_names), "made_of": made_of, "records": {}}
    if index_path.exists():
        found = json.loads(index_path.read_text())
        if found.get("made_of") != made_of:
            raise FileExistsError(f"{index_path} is of other images or other settings; name another output folder.")
        index = found
    elif any(file.exists() for file in files):
        raise FileExistsError(f"{output} has files of the name {name} already; name another output folder.")

    corrupt = CorruptImages(max_corrupt)
    progress = keras.utils.Progbar(source.size, unit_name="image", verbose=int(verbose))
    done = 0
    for shard, file in enumerate(files):
        chosen = order[shard::shards]
        if not (file.exists() and file.name in index["records"]):
            index["records"][file.name] = _write_shard(source, chosen, file, corrupt)
            with replacing(index_path) as partial:
                partial.write_text(json.dumps(index, indent=1) + "\n")
        done += len(chosen)
        progress.update(done, finalize=shard == shards - 1)
    return files


def _write_shard(source, chosen, file, corrupt) -> int:
    """Write one file, and return the number of records."""
    written = 0
    with replacing(file) as partial, tf.io.TFRecordWriter(str(partial)) as records:
        for index in chosen:
            path, label, name = source.read(index)
            content = Path(path).read_bytes()
            try:
                open_image(content, channels=3)
            except OSError as error:
                corrupt.add(name, error)
                continue
            feature = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
            }
            records.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
            written += 1
    return written
