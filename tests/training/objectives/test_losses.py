import keras
import numpy as np
import pytest

from keras_vit import training


@pytest.fixture
def scores():
    random = np.random.default_rng(1)
    return random.normal(size=(6, 5)) * 3, random.dirichlet(np.ones(5), size=6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def binary(y, p):
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def test_sigmoid_crossentropy_matches_numpy(scores):
    logits, targets = scores
    targets[targets < 0.1] = 0
    p = sigmoid(logits)
    for loss, right in [
        (training.SigmoidCrossentropy(), binary(targets, p).mean()),
        (training.SigmoidCrossentropy(from_logits=False), binary(targets, p).mean()),
        (training.SigmoidCrossentropy(threshold=0.0), binary((targets > 0) * 1.0, p).mean()),
        (training.SigmoidCrossentropy(threshold=0.3), binary((targets > 0.3) * 1.0, p).mean()),
        (training.SigmoidCrossentropy(label_smoothing=0.1), binary(0.9 * targets + 0.1 / 5, p).mean()),
        (training.SigmoidCrossentropy(sum_over_classes=True), binary(targets, p).sum(-1).mean()),
    ]:
        outputs = logits if loss.from_logits else p
        assert float(loss(targets, outputs)) == pytest.approx(right, rel=1e-5)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert float(again(targets, outputs)) == float(loss(targets, outputs))


def test_sigmoid_crossentropy_of_extreme_logits_is_finite():
    loss = training.SigmoidCrossentropy()(np.array([[1.0, 0.0]]), np.array([[-200.0, 200.0]]))
    assert float(loss) == pytest.approx(200)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_loss_matches_numpy(scores, temperature):
    student, teacher = scores[0], np.log(scores[1])
    log_p = np.log(softmax(student))
    hard = training.DistillationLoss("hard", temperature)
    # Hard distillation does not depend on the temperature.
    assert float(hard(teacher, student)) == pytest.approx(-log_p[range(6), teacher.argmax(-1)].mean(), rel=1e-5)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    right = temperature**2 * (p * np.log(p / q)).sum(-1)
    soft = training.DistillationLoss("soft", temperature)
    assert float(soft(teacher, student)) == pytest.approx(right.mean(), rel=1e-5)
    weights = np.arange(6.0)
    assert float(soft(teacher, student, weights)) == pytest.approx((weights * right).mean(), rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(soft))
    assert float(again(teacher, student)) == float(soft(teacher, student))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training.SigmoidCrossentropy(label_smoothing=1.0), "received 1.0"),
        (lambda: training.DistillationLoss("medium"), "'hard' or 'soft'; received 'medium'"),
        (lambda: training.DistillationLoss("soft", 0.0), "received 0.0"),
    ],
)
def test_settings_out_of_range_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
