import keras
import numpy as np
import pytest

from keras_vit import training

SIZE, CLASSES = 4, 3


@pytest.fixture
def batch():
    random = np.random.default_rng(2)
    labels = random.dirichlet(np.ones(CLASSES), size=8).astype("float32")
    return random.normal(size=(8, SIZE, SIZE, 1)).astype("float32"), labels


def flat(images, units=CLASSES, **settings):
    return keras.layers.Dense(units, **settings)(keras.layers.Flatten()(images))


def student(outputs=2):
    images = keras.Input((SIZE, SIZE, 1))
    scores = [flat(images, name=f"head_{index}") for index in range(outputs)]
    return keras.Model(images, scores if outputs > 1 else scores[0])


def teacher(size=SIZE, activation=None):
    images = keras.Input((size, size, 1))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(images))
    return keras.Model(images, flat(x, activation=activation, kernel_initializer="random_normal"))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def expected(logits, targets, teacher_scores, kind, weight, temperature):
    """Return the loss, and its gradient with respect to the logits of each output."""
    p = [softmax(x) for x in logits]
    labels = -(targets * np.log(p[0])).sum(-1).mean()
    if kind == "hard":
        aim = np.eye(CLASSES)[teacher_scores.argmax(-1)]
        distance, slope = -(aim * np.log(p[-1])).sum(-1).mean(), p[-1] - aim
    else:
        aim, q = softmax(teacher_scores / temperature), softmax(logits[-1] / temperature)
        distance = temperature**2 * (aim * np.log(aim / q)).sum(-1).mean()
        slope = temperature * (q - aim)
    slopes = [(1 - weight) * (p[0] - targets) / len(targets), np.zeros_like(p[0])][: len(logits)]
    slopes[-1] = slopes[-1] + weight * slope / len(targets)
    return (1 - weight) * labels + weight * distance, slopes


@pytest.mark.parametrize("activation", [None, "softmax"], ids=["logits", "probabilities"])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_training_step_matches_the_loss_of_deit(batch, outputs, kind, activation):
    images, targets = batch
    model, knowing = student(outputs), teacher(activation=activation)
    known = knowing.get_weights()
    before = model.get_weights()
    training.distill(model, knowing, kind=kind, weight=0.3, temperature=2.0)
    model.compile(keras.optimizers.SGD(0.5), keras.losses.CategoricalCrossentropy(from_logits=True))
    pixels = images.reshape(8, -1)
    logits = [pixels @ before[2 * index] for index in range(outputs)]
    scores = knowing.predict(images, verbose=0)
    teacher_scores = np.log(scores) if activation else scores
    right, slopes = expected(logits, targets, teacher_scores, kind, 0.3, 2.0)
    assert float(model.train_on_batch(images, targets)) == pytest.approx(right, rel=1e-5)
    for index, slope in enumerate(slopes):
        np.testing.assert_allclose(
            model.get_weights()[2 * index], before[2 * index] - 0.5 * pixels.T @ slope, atol=1e-5
        )
    # The check would detect another weight of the distillation loss, and another teacher.
    for wrong in (
        expected(logits, targets, teacher_scores, kind, 0.31, 2.0),
        expected(logits, targets, teacher_scores[::-1], kind, 0.3, 2.0),
    ):
        assert abs(wrong[0] - right) > 1e-4
    # The teacher's weights and statistics have not changed, and its variables do not belong to the student.
    for after, weight in zip(knowing.get_weights(), known, strict=True):
        np.testing.assert_array_equal(after, weight)
    assert len(model.variables) == len(before)


def test_metrics_and_validation_use_the_mean_of_the_outputs(batch):
    images, targets = batch
    model = student()
    training.distill(model, teacher())
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    measured = model.evaluate(images, targets, verbose=0, return_dict=True)
    mean = sum(model.predict(images, verbose=0)) / 2
    assert measured["loss"] == pytest.approx(-(targets * np.log(softmax(mean))).sum(-1).mean(), rel=1e-5)
    assert measured["accuracy"] == pytest.approx((mean.argmax(-1) == targets.argmax(-1)).mean())
    assert model.train_on_batch(images, targets, return_dict=True)["accuracy"] == measured["accuracy"]


@pytest.mark.parametrize("size", [8, 2])
def test_images_are_resized_for_the_teacher(batch, size):
    images, targets = batch
    model, knowing = student(1), teacher(size)
    training.distill(model, knowing, kind="soft", weight=1.0)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    logits = model.predict(images, verbose=0)
    seen = keras.ops.image.resize(images, (size, size), antialias=size < SIZE)
    teacher_scores = knowing.predict(np.array(seen), verbose=0)
    right, _ = expected([logits], targets, teacher_scores, "soft", 1.0, 1.0)
    assert float(model.train_on_batch(images, targets)) == pytest.approx(right, rel=1e-5)


def test_a_student_trains_with_sam_and_is_saved_as_an_ordinary_model(batch, tmp_path):
    model = student()
    training.distill(model, teacher())
    training.use_sam(model)
    optimizer = training.optimizer("lamb", model, 0.01)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    losses = [float(model.train_on_batch(*batch)[0]) for _ in range(10)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert not {"train_step", "compute_loss", "compute_metrics"} & vars(loaded).keys()
    np.testing.assert_array_equal(loaded.predict(batch[0], verbose=0)[0], model.predict(batch[0], verbose=0)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "medium"}, "'medium'"),
        ({"weight": 1.5}, r"weight must be in \[0, 1\]; received 1.5"),
        ({"temperature": 0.0}, "received 0.0"),
        ({"from_logits": False}, "two outputs must return logits"),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        training.distill(student(), teacher(), **settings)


def test_student_and_teacher_must_have_the_same_classes():
    images = keras.Input((SIZE, SIZE, 1))
    with pytest.raises(ValueError, match=r"\(None, 3\); the outputs of .* have \(None, 5\)"):
        training.distill(keras.Model(images, flat(images, 5)), teacher())
