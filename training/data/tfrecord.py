"""Load images from TFRecord files, and write the images of a folder to TFRecord files."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit.training.data.decode import Content, CorruptImages, open_image
from keras_vit.training.data.folder import existing_folder, find_splits, folder_source
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import drawn_from_a_stream
from keras_vit.training.lazy_modules import keras, tf
from keras_vit.utils.files import replacing

_FILES_AT_ONCE = 16


class RecordSource:
    """Provide images from TFRecord files, which are read sequentially, several files in parallel.

    The files are shuffled in each epoch, and their records pass through a shuffle buffer. If there are at least as many
    files as workers, each worker reads its own files.

    Args:
        files: Paths of the files, local or on Google Cloud Storage.
        counts: Number of records in each file.
        class_names: Name of each class.
        first_label: Label of the first class in the files.
        buffer: Size of the shuffle buffer, in records.
        origin: Where the records come from; recorded in `settings`.

    Raises:
        ValueError: If there are no records.
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
            raise ValueError(
                f"{name} lacks the feature image/encoded or image/class/label; it has {', '.join(features)}."
            )
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
        train: Glob pattern of the training files, such as "records/train-*", local or "gs://...".
        validation: Glob pattern of the validation files.
        class_names: Name of each class. If None, the names that `write_tfrecords` wrote next to the files.
        first_label: Label of the first class. The common TFRecord files of ImageNet use 1.
        shuffle_buffer: Number of training records in the shuffle buffer, which is kept in memory.
        pipeline: Arguments of `Pipeline`.

    Returns:
        Image data to train on.

    Raises:
        FileNotFoundError: If no file matches a pattern, or `class_names` is None and there are no names next to the
            files.
        ValueError: If there are no records, or a file is damaged.
    """
    sources = []
    for pattern in (train, validation):
        files = sorted(name for name in tf.io.gfile.glob(pattern) if not name.endswith(".json"))
        if not files:
            raise FileNotFoundError(f"No file matches {pattern!r}.")
        index = _index(files[0])
        if class_names is None and index is None:
            raise FileNotFoundError(
                f"There is no {_index_of(files[0])!r} with the names of the classes; pass class_names."
            )
        names = class_names if class_names is not None else index["class_names"]
        counts = [(index or {}).get("records", {}).get(file.rsplit("/", 1)[-1]) for file in files]
        counts = [_count(file) if count is None else count for file, count in zip(files, counts, strict=True)]
        origin = f"records {pattern.rsplit('/', 1)[-1]}"
        sources.append(RecordSource(files, counts, names, first_label, shuffle_buffer, origin))
    return image_data(sources[0], sources[1], **pipeline)


def _index_of(file):
    """Return the path of the index of a file: records/train.json for records/train-00003-of-00016."""
    return f"{file.rsplit('-', 3)[0]}.json"


def _index(file):
    path = _index_of(file)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as text:
        return json.load(text)


def _count(file):
    """Count the records of a file by their length fields, without reading the records."""
    count, place = 0, 0
    with tf.io.gfile.GFile(file, "rb") as records:
        end = records.size()
        while place < end:
            # A record is stored as an 8-byte length, a 4-byte checksum, the data and another 4-byte checksum.
            records.seek(place)
            header = records.read(8)
            place += 16 + struct.unpack("<Q", header)[0] if len(header) == 8 else end
            count += 1
    if place > end:
        raise ValueError(f"{file!r} is damaged or not a TFRecord file: it ends within record {count - 1}.")
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
    """Write the images of a folder that has one subfolder per class to TFRecord files.

    Files are named train-00000-of-00016 and so on. Each file is written under a temporary name and then moved into
    place, so a file that exists is complete. After an interruption, call the function again to continue with the next
    file. Image files are copied without recompression; each is decoded once to check it. The class names and the number
    of records in each file are written to `NAME.json`.

    Args:
        folder: Folder with one subfolder per class.
        output: Folder to write the files to.
        name: Prefix of the file names.
        shards: Number of files.
        seed: Seed of the order of the images.
        max_corrupt: Largest number of undecodable images to skip; each is logged.
        verbose: Whether to show the progress.

    Returns:
        Paths of the files.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If the folder does not have one subfolder per class, `shards` is out of range, or too many images
            are corrupt.
        FileExistsError: If `output` has files with the same name from other images or other settings.
    """

    folder = existing_folder(folder)
    if splits := find_splits(folder):
        names = [path.name for path in splits.values()]
        raise ValueError(f"{str(folder)!r} has the folders {', '.join(names)}; write the records of one at a time.")
    source = folder_source(folder)
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
            raise FileExistsError(
                f"{index_path} was written for other images or other settings; choose another output folder."
            )
        index = found
    elif any(file.exists() for file in files):
        raise FileExistsError(f"{output} already has files named {name}; choose another output folder.")

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
    """Write one file and return its number of records."""
    written = 0
    with replacing(file) as partial, tf.io.TFRecordWriter(str(partial)) as records:
        for index in chosen:
            path, label, name = source.read(index)
            content = Path(path).read_bytes()
            try:
                open_image(content, channels=3)
            except (OSError, ValueError) as error:
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
