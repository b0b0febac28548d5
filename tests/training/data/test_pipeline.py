"""Test order, workers, resuming in mid-epoch, corrupt files, several image sizes and several views."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit import training
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.training.running.determinism import deterministic_operations
from tests.training.pictures import picture, write_folder
from tests.training.tiny import SETTINGS

DEIT = training.Augmentation(policy=training.RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)
# Faster to trace than DEIT, but still draws random numbers of every kind: per crop, per image and per batch.
LIGHT = training.Augmentation(jitter=training.ColorJitter(0.4), erase=0.25, mixup=0.8, cutmix=1.0, repeats=3)
PLAIN = {"image_size": 16, "augmentation": None, "statistics": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write 36 pictures of 3 classes, as files and as records, and return their folder."""
    root = tmp_path_factory.mktemp("pictures")
    write_folder(root / "images", images=12)
    training.write_tfrecords(root / "images", root / "records", shards=6, verbose=False)
    return root


def from_folder(root, **settings):
    return training.image_folder(root / "images", **{"image_size": 16, "batch_size": 6, **settings})


def from_records(root, **settings):
    pattern = str(root / "records" / "train-*")
    return training.tfrecords(pattern, pattern, shuffle_buffer=8, **{"image_size": 16, "batch_size": 6, **settings})


SOURCES = pytest.mark.parametrize("source", [from_folder, from_records])


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for part, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, expected)


@SOURCES
def test_batches_depend_only_on_seed_and_epoch(root, source):
    data = source(root, augmentation=LIGHT, seed=3)
    first = batches(data.train(1, 0))
    assert len(first) == data.steps_per_epoch
    assert {(images.shape, labels.shape) for images, labels in first} == {((6, 16, 16, 3), (6, 3))}
    np.testing.assert_allclose(np.concatenate([labels.sum(axis=1) for _, labels in first]), 1, atol=1e-6)
    assert_same(batches(source(root, augmentation=LIGHT, seed=3).train(1, 0)), first)
    for other in (data.train(2, 0), source(root, augmentation=LIGHT, seed=4).train(1, 0)):
        with pytest.raises(AssertionError):
            assert_same(batches(other), first)


@SOURCES
def test_training_can_start_in_the_middle_of_an_epoch(root, source):
    data = source(root, augmentation=LIGHT)
    whole = batches(data.train(1, 0))
    assert_same(batches(data.train(1, 2)), whole[2:])
    with pytest.raises(AssertionError):
        assert_same(batches(data.train(1, 1))[:-1], whole[2:])


@SOURCES
def test_repeats_are_consecutive_and_augmented_differently(root, source):
    data = source(root, augmentation=training.Augmentation(repeats=3), statistics=None)
    counted = source(root, **{**PLAIN, "augmentation": training.Augmentation(training.CenterCrop(), 0.0, repeats=3)})
    images = np.concatenate([images for images, _ in batches(counted.train(0, 0))])
    kinds = [bytes(image) for image in images]
    assert all(len(set(kinds[start : start + 3])) == 1 for start in range(0, len(kinds), 3))
    assert len(set(kinds)) == len(kinds) // 3
    drawn = np.concatenate([images for images, _ in batches(data.train(0, 0))])
    assert len({bytes(image) for image in drawn}) == len(drawn)


@SOURCES
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_images(root, source, workers):
    data = source(root, **PLAIN)
    whole = batches(data.train(1, 0))
    parts = [batches(data.train(1, 0, tf.distribute.InputContext(workers, worker))) for worker in range(workers)]
    assert {len(part) for part in parts} == {data.steps_per_epoch}
    assert {images.shape[0] for part in parts for images, _ in part} == {6 // workers}

    def kinds(some):
        return sorted(bytes(image) for images, _ in some for image in images)

    together = kinds([batch for part in parts for batch in part])
    # An epoch has batch_size images per step; with records, workers may drop other images than a single worker.
    assert len(set(together)) == len(together) == len(kinds(whole))
    if source is from_folder:
        for step, (images, _) in enumerate(whole):
            assert kinds([part[step] for part in parts]) == sorted(map(bytes, images))
    # A worker can also start in the middle of an epoch.
    context = tf.distribute.InputContext(workers, 1)
    assert_same(batches(data.train(1, 3, context)), parts[1][3:])


def test_workers_augment_images_like_a_single_worker(root):
    """Mixing is off, since it mixes only the images of one worker."""
    data = from_folder(root, augmentation=training.Augmentation(jitter=training.ColorJitter(0.4), erase=0.25))
    whole = batches(data.train(0, 0))
    parts = [batches(data.train(0, 0, tf.distribute.InputContext(2, worker))) for worker in range(2)]
    for step, (images, _) in enumerate(whole):
        for worker in range(2):
            np.testing.assert_array_equal(parts[worker][step][0], images[worker::2])


def test_batch_size_not_divisible_by_workers_raises(root):
    with pytest.raises(ValueError, match=r"Batches of \[6\] images can't be shared by 4 workers"):
        from_folder(root).train(0, 0, tf.distribute.InputContext(4, 0))


def test_batches_do_not_depend_on_deterministic_mode_and_dtype_policy(root):
    data = from_folder(root, augmentation=DEIT)
    expected = batches(data.train(0, 0))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with deterministic_operations():  # As in `fit`.
            assert_same(batches(data.train(0, 0)), expected)
            assert_same(batches(from_folder(root, augmentation=DEIT).train(0, 0)), expected)
    finally:
        keras.config.set_dtype_policy("float32")


@SOURCES
def test_cache_does_not_change_the_images(root, source):
    def kinds(dataset):
        return sorted(bytes(image) for images, _ in batches(dataset) for image in images)

    data, cached = source(root, **PLAIN), source(root, cache=True, **PLAIN)
    assert kinds(cached.validation) == kinds(data.validation)
    assert len(set(kinds(cached.train(0, 0))) - set(kinds(data.train(0, 0)))) <= 6


def test_images_are_normalized(root):
    plain = batches(from_folder(root, **PLAIN).validation)[0][0]
    imagenet = batches(from_folder(root, **{**PLAIN, "statistics": IMAGENET}).validation)[0][0]
    half = batches(from_folder(root, **{**PLAIN, "statistics": Statistics(0.5, 0.5)}).train(0, 0))[0][0]
    np.testing.assert_allclose(imagenet, (plain / 255 - IMAGENET.mean) / IMAGENET.std, atol=1e-5)
    np.testing.assert_allclose(half, batches(from_folder(root, **PLAIN).train(0, 0))[0][0] / 127.5 - 1, atol=1e-5)


def test_grayscale_images(root):
    settings = {"channels": 1, "statistics": None, "augmentation": training.Augmentation(erase=0.5, mixup=0.2)}
    data = from_folder(root, **settings)
    assert data.input_shape == (16, 16, 1)
    assert batches(data.train(0, 0))[0][0].shape == (6, 16, 16, 1)
    assert batches(data.validation)[0][0].shape[1:] == (16, 16, 1)
    with pytest.raises(ValueError, match="needs colors"):
        from_folder(root, **{**settings, "augmentation": DEIT})
    with pytest.raises(ValueError, match="statistics are for 3 channels"):
        from_folder(root, **{**settings, "statistics": IMAGENET})


def spoil(path, kind):
    whole = path.read_bytes()
    path.write_bytes({"no image": b"nothing", "empty": b"", "truncated": whole[: len(whole) // 2]}[kind])


@pytest.fixture
def damaged(tmp_path):
    """Write 48 JPEG files, damage three, and return the root folder and the names of the damaged files."""
    paths = write_folder(tmp_path / "images", images=16, suffix=".jpg")
    for path, kind in zip(paths[3::15], ("no image", "empty", "truncated"), strict=False):
        spoil(path, kind)
    return tmp_path, [str(path.relative_to(tmp_path / "images")) for path in paths[3:48:15]]


def test_corrupt_images_are_logged_and_skipped(damaged, caplog):
    root, names = damaged
    data = from_folder(root, validation_fraction=0.2, **PLAIN)
    with caplog.at_level(logging.WARNING, "keras_vit.training"):
        epochs = [batches(data.train(epoch, 0)) for epoch in range(2)]
        validation = batches(data.validation)
    assert sorted(data.corrupt) == sorted(names)
    assert len([record for record in caplog.records if "Skipped" in record.message]) == 3
    assert all(any(name in record.message for record in caplog.records) for name in names)
    sound = [
        path for path in sorted((root / "images").rglob("*.jpg")) if str(path.relative_to(root / "images")) not in names
    ]
    pictures = {bytes(training.CenterCrop()(Image.open(path).convert("RGB"), 16).astype("float32")) for path in sound}
    assert len(pictures) == 45
    for images, labels in [*epochs[0], *epochs[1], *validation]:
        assert {bytes(image) for image in images} <= pictures
        np.testing.assert_array_equal(labels.sum(axis=1), 1)
    assert {len(images) for images, _ in epochs[0]} == {6}
    seen = {bytes(image) for images, _ in [*validation, *epochs[0], *epochs[1]] for image in images}
    assert len(seen) > 40


def test_an_epoch_with_corrupt_images_can_start_in_its_middle(damaged):
    root, _ = damaged
    whole = batches(from_folder(root, augmentation=LIGHT).train(0, 0))
    assert_same(batches(from_folder(root, augmentation=LIGHT).train(0, 4)), whole[4:])


def test_too_many_corrupt_images_raise_an_error_that_lists_them(damaged):
    root, names = damaged
    data = from_folder(root, max_corrupt=2, **PLAIN)
    with pytest.raises(tf.errors.OpError, match="3 images can't be decoded, more than max_corrupt=2") as caught:
        for epoch in range(3):
            batches(data.train(epoch, 0))
    assert all(name in str(caught.value) for name in names)


def test_batches_of_several_sizes(root):
    scale = training.MultiScale(sizes=(12, 16, 24), multiple_of=1)
    assert scale.batch_sizes(16, 4) == (7, 4, 1)
    data = from_folder(root, batch_size=4, multi_scale=scale, statistics=None)
    assert data.steps_per_epoch == 3 * (33 // 12)
    epoch = batches(data.train(0, 0))
    shapes = [images.shape for images, _ in epoch]
    expected = {(7, 12, 12, 3): 2, (4, 16, 16, 3): 2, (1, 24, 24, 3): 2}
    assert {shape: shapes.count(shape) for shape in shapes} == expected
    assert [len(labels) for _, labels in epoch] == [len(images) for images, _ in epoch]
    orders = {tuple(images.shape[1] for images, _ in batches(data.train(number, 0))) for number in range(5)}
    assert len(orders) > 1
    assert_same(batches(data.train(0, 4)), epoch[4:])
    assert {images.shape[1:] for images, _ in batches(data.validation)} == {(16, 16, 3)}


def test_mobilevit_sizes_have_about_the_same_number_of_pixels_per_batch():
    scale = training.MultiScale()
    assert scale.batch_sizes(256, 128) == (320, 224, 160, 128, 96, 80)
    assert training.MultiScale((128, 224), constant_batch=True).batch_sizes(224, 100) == (100, 100)


def test_each_view_has_its_own_crop(root):
    views = training.multi_crop(global_size=16, local_size=8, local_crops=1)
    data = from_folder(root, augmentation=views, statistics=None)
    whole = batches(data.train(0, 0))
    images, labels = whole[0]
    assert [view.shape for view in images] == [(6, 16, 16, 3), (6, 16, 16, 3), (6, 8, 8, 3)] and labels.shape == (6, 3)
    assert not np.array_equal(images[0], images[1])
    late = batches(data.train(0, 2))
    for ours, theirs in zip(late, whole[2:], strict=True):
        assert_same([ours[0]], [theirs[0]])
    # Each view uses its own range of areas: small crops of a horizontal brightness ramp cover less of its range.
    ramp = np.repeat(np.linspace(0, 255, 64).astype("uint8")[None, :, None], 64, axis=0).repeat(3, axis=2)
    plain = [training.Augmentation(view.crop, image_size=view.image_size) for view in views]
    labels = np.arange(40) % 2
    data = training.arrays(
        np.stack([ramp] * 40), labels, image_size=16, batch_size=32, augmentation=plain, statistics=None
    )
    (one, other, small), _ = batches(data.train(0, 0))[0]
    spread = [np.ptp(view[..., 0], axis=(1, 2)).mean() for view in (one, other, small)]
    assert spread[2] < 0.8 * min(spread[:2])


def test_several_views_with_mixing_or_several_sizes_raise(root):
    with pytest.raises(ValueError, match="several views"):
        from_folder(root, augmentation=[DEIT, DEIT])
    with pytest.raises(ValueError, match="several views"):
        from_folder(root, augmentation=training.multi_crop(), multi_scale=training.MultiScale())


def small_model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential(layers)


def test_a_run_on_files_resumes_in_mid_epoch(root, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise KeyboardInterrupt

    settings = {**SETTINGS, "epochs": 2, "checkpoint_steps": 3}
    light = {"augmentation": LIGHT, "statistics": IMAGENET}
    whole = small_model()
    training.fit(whole, from_folder(root, **light), run_dir=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run = from_folder(root, **light)
        training.fit(small_model(), run, run_dir=tmp_path / "run", callbacks=[Stop()], **settings)
    resumed = small_model()
    data = from_folder(root, **light)
    training.fit(resumed, data, run_dir=tmp_path / "run", resume=True, **settings)
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="data was"):
        other = from_folder(root, augmentation=training.Augmentation(), statistics=IMAGENET)
        training.fit(small_model(), other, run_dir=tmp_path / "run", resume=True, **settings)


def test_keras_fit_trains_on_consecutive_epochs(root):
    data = from_folder(root, augmentation=LIGHT, statistics=IMAGENET)
    endless = batches(data.epochs(first=1).take(2 * data.steps_per_epoch))
    assert_same(endless, batches(data.train(1, 0)) + batches(data.train(2, 0)))
    model = small_model()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        data.epochs(), steps_per_epoch=data.steps_per_epoch, epochs=2, validation_data=data.validation, verbose=0
    ).history
    assert (
        len(history["loss"]) == 2
        and int(data.validation.cardinality()) == len(batches(data.validation))
        and np.isfinite(history["val_loss"]).all()
    )


def test_every_image_format_is_read(tmp_path):
    for number, suffix in enumerate((".jpg", ".png", ".bmp", ".gif", ".webp")):
        path = tmp_path / "images" / f"class_{number % 2}" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    Image.fromarray(picture(9)).convert("P").save(tmp_path / "images" / "class_1" / "palette.png")
    Image.fromarray(picture(9)).convert("CMYK").save(tmp_path / "images" / "class_1" / "cmyk.jpg")
    data = training.image_folder(tmp_path / "images", batch_size=1, max_corrupt=0, **PLAIN)
    images = [image for part in (data.train(0, 0), data.validation) for images, _ in batches(part) for image in images]
    assert len(images) == 7 and all(np.ptp(image) > 50 for image in images)
