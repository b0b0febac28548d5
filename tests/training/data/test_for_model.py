"""Data asks the model it is used with how to normalize and crop images, and refuses what contradicts the model."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import edge, training
from keras_vit.models.image_facts import HALF, IMAGENET, UNIT
from tests.training.pictures import picture, write_folder

SETTINGS = {"epochs": 1, "learning_rate": 1e-3, "verbose": 0}


def vit(**settings):
    given = {"classes": 3, "input_shape": (16, 16, 3), "patch_size": 8, "width": 12, "depth": 1, "num_heads": 2}
    return keras_vit.ViT(**{**given, **settings})


def deit(**settings):
    given = {"classes": 3, "input_shape": (16, 16, 3), "patch_size": 8, "width": 12, "depth": 1, "num_heads": 2}
    return keras_vit.DeiT(**{**given, **settings})


def convnet():
    return keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")], name="mine"
    )


def pixels(**settings):
    """Return data of 16 x 16 pixels in 3 classes."""
    images = np.stack([picture(number, 16, 16) for number in range(24)])
    return training.arrays(images, np.arange(24) % 3, **{"batch_size": 6, "augmentation": None, **settings})


def first(dataset):
    return next(iter(dataset))[0].numpy()


@pytest.mark.parametrize(
    ("model", "statistics"),
    [(vit(), HALF), (deit(), IMAGENET), (vit(include_preprocessing=True), None), (keras_vit.fuse(deit()), IMAGENET)],
    ids=["vit", "deit", "pixels", "fused"],
)
def test_data_for_a_model_is_normalized_as_preprocess_input_does_it(model, statistics):
    data = pixels()
    raw, prepared = first(data.validation), first(data.for_model(model).validation)
    assert raw.max() > 200 and raw.min() >= 0
    expected = raw if statistics is None else (raw / 255 - statistics.mean) / statistics.std
    np.testing.assert_allclose(prepared, expected, atol=1e-5)
    ours, plain = first(data.for_model(model).train(0, 0)), first(data.train(0, 0))
    np.testing.assert_allclose(
        ours, plain if statistics is None else (plain / 255 - statistics.mean) / statistics.std, atol=1e-5
    )


def test_evaluation_crops_as_the_model_does(tmp_path):
    paths = write_folder(tmp_path / "pictures")
    data = training.image_folder(tmp_path / "pictures", image_size=16, batch_size=6, validation_fraction=0.3)
    for model in (vit(), deit(), keras_vit.ViT_B16(classes=3, **SMALL)):
        expected = keras_vit.preprocess_input(paths, model)
        for image in first(data.for_model(model).validation):
            # The pipeline crops with Pillow, which rounds to 8 bits.
            assert np.abs(expected - image).max(axis=(1, 2, 3)).min() < 0.05
    stated = training.image_folder(
        tmp_path / "pictures", image_size=16, batch_size=6, validation_fraction=0.3, evaluation=training.CenterCrop(0.5)
    )
    assert np.abs(first(stated.for_model(vit()).validation) - first(data.for_model(vit()).validation)).max() > 0.1


SMALL = {"input_shape": (16, 16, 3), "width": 12, "depth": 1, "num_heads": 2, "mlp_dim": 24, "patch_size": 8}


def trained_range(model, data, run_dir, **settings):
    """Train a model and return the lowest and the highest value that its first layer received."""
    seen = []

    @keras.saving.register_keras_serializable("tests", name=f"Spy{id(seen)}")
    class Spy(keras.layers.Layer):
        def call(self, x):
            tf.numpy_function(lambda values: seen.append((values.min(), values.max())) or np.int64(0), [x], tf.int64)
            return x

    inputs = keras.Input(model.input_shape[1:])
    training.fit(keras.Model(inputs, model(Spy()(inputs))), data, run_dir=run_dir, **{**SETTINGS, **settings})
    seen = [(low, high) for low, high in seen if high > low]  # A blank batch creates the variables.
    return min(low for low, _ in seen), max(high for _, high in seen)


@pytest.mark.parametrize(
    ("build", "low", "high"),
    [(vit, -1, 1), (deit, -2.2, 2.7), (lambda: vit(include_preprocessing=True), 0, 255)],
    ids=["vit", "deit", "pixels"],
)
def test_fit_gives_a_model_images_as_it_takes_them(build, low, high, tmp_path):
    lowest, highest = trained_range(build(), pixels(), tmp_path / "run")
    assert low <= lowest < low + 0.2 * (high - low) and high - 0.2 * (high - low) < highest <= high


def test_the_accuracy_of_evaluate_and_of_preprocess_input_agree(tmp_path):
    """Classes are shades of gray, so a model is right only with the normalization that it was trained with."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = np.clip(rng.normal(np.array([60, 120, 180])[labels, None, None, None], 10, (60, 16, 16, 3)), 0, 255)
    images = images.astype("uint8")
    keras.utils.set_random_seed(0)
    model = vit(width=24)
    data = training.arrays(images[:30], labels[:30], validation=(images[30:], labels[30:]), batch_size=15)
    training.fit(model, data, run_dir=tmp_path / "run", **{**SETTINGS, "epochs": 20, "learning_rate": 3e-3})
    predicted = model.predict(keras_vit.preprocess_input(images[30:], model), verbose=0).argmax(axis=1)
    accuracy = training.evaluate(model, data.validation, data.class_names).top1
    assert accuracy == (predicted == labels[30:]).mean() and accuracy > 0.9
    # The data of one model serves another one as well, also after it was prepared for the first.
    other = vit(width=24, include_preprocessing=True)
    other.set_weights(model.get_weights())
    for validation in (data.validation, data.for_model(model).validation):
        assert training.evaluate(other, validation, data.class_names).top1 == accuracy


@pytest.mark.parametrize(
    ("build", "statistics", "sentence"),
    [
        (vit, IMAGENET, r"normalizes images by Statistics\(mean=\(0.485.*'vit' takes.*Statistics\(mean=0.5, std=0.5\)"),
        (vit, None, r"gives pixels in \[0, 255\].*'vit' takes images normalized by Statistics\(mean=0.5, std=0.5\)"),
        (lambda: vit(include_preprocessing=True), HALF, r"by Statistics\(mean=0.5.*takes pixels in \[0, 255\]"),
        (deit, UNIT, r"Statistics\(mean=0.0, std=1.0\).*takes images normalized by Statistics\(mean=\(0.485"),
    ],
)
def test_a_contradiction_is_refused_with_both_values(build, statistics, sentence, tmp_path):
    data, model = pixels(statistics=statistics), build()
    with pytest.raises(ValueError, match=sentence):
        training.fit(model, data, run_dir=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()
    for use in (
        lambda: data.for_model(model),
        lambda: training.evaluate(model, data.validation, data.class_names),
        lambda: edge.quantize_aware(model, calibration_data=data.validation),
    ):
        with pytest.raises(ValueError, match=sentence):
            use()


def test_statistics_that_agree_with_the_model_are_accepted(tmp_path):
    same = training.Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    np.testing.assert_array_equal(
        first(pixels(statistics=same).for_model(vit()).validation), first(pixels().for_model(vit()).validation)
    )


def test_a_model_of_another_library_needs_data_that_states_its_statistics(tmp_path):
    with pytest.raises(ValueError, match=r"not known how mine takes images.*statistics=None.*training\.Statistics"):
        training.fit(convnet(), pixels(), run_dir=tmp_path / "run", **SETTINGS)
    training.fit(convnet(), pixels(statistics=None), run_dir=tmp_path / "run", **SETTINGS)
    data = pixels(statistics=HALF)
    assert training.evaluate(convnet(), data.validation, data.class_names).images == 3
    assert first(data.for_model(convnet()).validation).min() < 0


def test_keras_own_fit_needs_data_for_a_model():
    with pytest.raises(ValueError, match=r"for_model\(model\)\.epochs\(\)"):
        pixels().epochs()
    assert first(pixels().for_model(vit()).epochs()).min() < 0
    assert first(pixels(statistics=UNIT).epochs()).max() <= 1


def test_a_wrong_number_of_channels_or_a_wrong_value():
    with pytest.raises(ValueError, match=r"takes images with 1 channels, but those of the data have 3.*channels=1"):
        pixels().for_model(vit(input_shape=(16, 16, 1)))
    with pytest.raises(ValueError, match="'imagenet'"):
        pixels(statistics="imagenet")


def test_views_and_sizes_are_normalized_too():
    views = pixels(augmentation=training.multi_crop(global_size=16, local_size=8, local_crops=1)).for_model(vit())
    for view in next(iter(views.train(0, 0)))[0]:
        assert -1 <= view.numpy().min() < 0 and view.numpy().max() <= 1
    scale = training.MultiScale((8, 16), constant_batch=True)
    for images, _ in pixels(multi_scale=scale).for_model(vit()).train(0, 0):
        assert -1 <= images.numpy().min() < 0 and images.numpy().max() <= 1


def test_calibration_and_verification_normalize_the_data_for_the_model(tmp_path):
    data, model = pixels(), vit()
    images = first(data.for_model(model).validation)
    quantized = edge.quantize_aware(model, calibration_data=data.validation)
    same = edge.quantize_aware(model, calibration_data=images)
    np.testing.assert_array_equal(quantized.predict(images, verbose=0), same.predict(images, verbose=0))
    file = edge.export(model, tmp_path / "model.tflite")
    assert edge.verify(model, file, data.validation).to_dict() == edge.verify(model, file, images).to_dict() | {
        "top1": edge.verify(model, file, data.validation).top1,
        "reference_top1": edge.verify(model, file, data.validation).reference_top1,
    }
    taken = r"uint8 from \d+ to \d+, but the model 'vit' takes images normalized by .* from -1 to 1"
    given = first(data.validation).astype("uint8")
    for use in (
        lambda: edge.quantize_aware(model, calibration_data=given),
        lambda: edge.export(model, tmp_path / "int8.tflite", "hybrid_int8", calibration_data=given),
        lambda: edge.verify(model, file, given),
    ):
        with pytest.raises(ValueError, match=taken):
            use()
    with pytest.raises(ValueError, match="float32 from 0 to 255, but"):
        edge.quantize_aware(model, calibration_data=data.validation.map(lambda images, _: images * 0 + [0.0, 9, 255]))
    with pytest.raises(ValueError, match=r"from -1 to 0.99.*, but the model 'vit' takes pixels"):
        edge.quantize_aware(vit(include_preprocessing=True), calibration_data=np.sin(given.astype("float32") ** 2))


def by_hand(images, labels):
    """Return image data as a user creates it from tf.data."""
    one_hot = np.eye(3, dtype="float32")[labels]
    batches = tf.data.Dataset.from_tensor_slices((images.astype("float32"), one_hot)).batch(6, drop_remainder=True)
    return training.ImageData(
        class_names=("a", "b", "c"),
        input_shape=(16, 16, 3),
        batch_size=6,
        steps_per_epoch=len(batches),
        train=lambda epoch, skip_steps: batches.skip(skip_steps),
        validation=batches,
        settings={"source": "mine"},
    )


def test_images_that_a_user_prepared_are_used_as_they_are_or_refused(tmp_path, capfd):
    images = np.stack([picture(number, 16, 16) for number in range(12)])
    labels = np.arange(12) % 3
    takes = r"from 0 to 255, but the model 'vit' takes images normalized by"
    model, untrained = vit(), vit()
    untrained.set_weights(model.get_weights())
    with pytest.raises(ValueError, match=takes), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        training.fit(model, by_hand(images, labels), run_dir=tmp_path / "right", **SETTINGS)
    for weight, before in zip(model.get_weights(), untrained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, before)
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(ValueError, match=takes):
        training.evaluate(vit(), by_hand(images, labels).validation, ("a", "b", "c"))
    normalized = by_hand(images / 127.5 - 1, labels)
    with pytest.raises(ValueError, match="takes pixels from 0 to 255 and normalizes them itself"):
        training.fit(vit(include_preprocessing=True), normalized, run_dir=tmp_path / "normalized", **SETTINGS)
    result = training.fit(vit(), normalized, run_dir=tmp_path / "right", **SETTINGS)
    assert np.isfinite(result.history[0]["loss"])
    training.fit(convnet(), by_hand(images, labels), run_dir=tmp_path / "other", **SETTINGS)
    wrong = dataclasses.replace(normalized, validation=by_hand(images, labels).validation)
    with pytest.raises(ValueError, match=takes):
        training.fit(vit(), wrong, run_dir=tmp_path / "validation", **SETTINGS)
    training.fit(vit(), normalized, run_dir=tmp_path / "validation", resume=True, **SETTINGS)


def test_a_teacher_gets_images_as_it_takes_them():
    """A DeiT normalizes by ImageNet's statistics and a ViT does not, so the teacher's images are converted."""
    keras.utils.set_random_seed(0)
    student, teacher = vit(), deit(classifier_activation=None)
    images = pixels()
    of_student, of_teacher = (first(images.for_model(model).validation) for model in (student, teacher))
    student.compile(keras.optimizers.SGD(0.0), keras.losses.CategoricalCrossentropy())
    training.distill(student, teacher, kind="soft", weight=1.0)
    labels = np.eye(3, dtype="float32")[[0] * len(of_student)]
    loss = student.train_on_batch(of_student, labels)
    scores = np.log(student.predict(of_student, verbose=0))
    expected = training.DistillationLoss("soft")(teacher(of_teacher), scores)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    wrong = training.DistillationLoss("soft")(teacher(of_student), scores)
    assert float(loss) != pytest.approx(float(wrong), rel=1e-3)


def test_a_recipe_that_states_statistics_decides_those_of_the_model(tmp_path):
    recipe = training.recipe("vit_small_data_32")
    small = {"patch_size": 8, "width": 12, "depth": 1, "num_heads": 2, "mlp_dim": 12}
    pipeline = dataclasses.replace(recipe.pipeline, image_size=16, batch_size=6, augmentation=None)
    recipe = dataclasses.replace(
        recipe,
        model_settings=recipe.model_settings | small,
        pipeline=pipeline,
        hyperparameters=dataclasses.replace(recipe.hyperparameters, epochs=1, warmup_epochs=0),
    )
    write_folder(tmp_path / "pictures")
    result = training.train(recipe, str(tmp_path / "pictures"), tmp_path / "run", precision="float32", verbose=0)
    model = keras.models.load_model(result.best_model)
    image = picture(0, 16, 16)
    expected = (image / 255 - pipeline.statistics.mean) / pipeline.statistics.std
    np.testing.assert_allclose(keras_vit.preprocess_input(image, model), expected, atol=1e-5)
