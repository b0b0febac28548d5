import keras
import numpy as np
import pytest

from keras_vit import training
from tests.training.tiny import build_model


@pytest.fixture
def batch():
    random = np.random.default_rng(2)
    return random.normal(size=(10, 4)), random.normal(size=(10, 3))


def linear():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def gradients(kernel, bias, x, y):
    error = x @ kernel + bias - y
    return [2 * x.T @ error / error.size, 2 * error.sum(0) / error.size]


def moved(weights, slopes, rho, eta):
    scales = [1.0 if eta is None else np.abs(w) + eta for w in weights]
    norm = np.sqrt(sum(np.square(t * g).sum() for t, g in zip(scales, slopes, strict=True)))
    return [w + rho * t**2 * g / norm for w, t, g in zip(weights, scales, slopes, strict=True)]


def descended(weights, x, y, rho, eta, steps=3, rate=0.1):
    """Run algorithm 1 of SAM or ASAM with gradient descent."""
    weights = [np.asarray(w, "float64") for w in weights]
    for _ in range(steps):
        slopes = gradients(*moved(weights, gradients(*weights, x, y), rho, eta), x, y)
        weights = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
    return weights


@pytest.mark.parametrize("eta", [None, 0.01], ids=["SAM", "ASAM"])
def test_steps_match_the_paper(batch, eta):
    model = linear()
    weights = model.get_weights()
    adaptive = {} if eta is None else {"adaptive": True, "eta": eta}
    training.use_sam(model, 0.5, **adaptive)
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.1
    history = model.fit(*batch, batch_size=10, epochs=3, verbose=0)
    for received, right in zip(model.get_weights(), descended(weights, *batch, 0.5, eta), strict=True):
        np.testing.assert_allclose(received, right, atol=1e-5)
    # The reported loss is that of the unperturbed weights before each step.
    before = [descended(weights, *batch, 0.5, eta, steps) for steps in range(3)]
    losses = [np.square(batch[0] @ kernel + bias - batch[1]).mean() for kernel, bias in before]
    assert history.history["loss"] == pytest.approx(losses, rel=1e-5)
    # The check would detect SAM in place of ASAM or vice versa, and a radius that is too large by 1 %.
    for wrong in (
        descended(weights, *batch, 0.5, 0.01 if eta is None else None),
        descended(weights, *batch, 0.505, eta),
    ):
        assert np.abs(model.get_weights()[0] - wrong[0]).max() > 1e-4


def noisy():
    keras.utils.set_random_seed(5)
    x = image = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8)(x))
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Dropout(0.5, seed=1)(x)))


def test_both_passes_use_the_same_random_numbers_and_only_one_updates_the_statistics(batch):
    results = {}
    for rho in (None, 1e-6, 0.5):
        model = noisy()
        if rho is not None:
            training.use_sam(model, rho)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        first = model.train_on_batch(*batch)
        results[rho] = first, [np.array(v) for v in model.variables], len(model.trainable_variables)
    plain, near, far = results.values()
    # With a radius close to 0, both passes give the same gradient if their dropout masks are the same.
    for received, right in zip(near[1], plain[1], strict=True):
        np.testing.assert_allclose(received, right, atol=1e-5)
    # Statistics and random states come from the first pass, regardless of the radius.
    model = noisy()
    trained = [v.path for v in model.trainable_variables]
    assert float(far[0]) == pytest.approx(float(plain[0]), rel=1e-6)
    for variable, received, right in zip(model.variables, far[1], plain[1], strict=True):
        if variable.path in trained and "bias" not in variable.path:
            assert np.abs(received - right).max() > 1e-5, variable.path
        if variable.path not in trained:
            np.testing.assert_array_equal(received, right)


def test_a_zero_gradient_changes_nothing():
    model = linear()
    before = model.get_weights()
    training.use_sam(model)
    model.compile("sgd", "mse")
    x = np.ones((2, 4), "float32")
    model.train_on_batch(x, model.predict(x, verbose=0))
    for after, weight in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(after, weight, atol=1e-6)


def test_float16_training_skips_an_infinite_gradient(batch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_float16")])
    before = model.get_weights()
    training.use_sam(model)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**40), "mse")
    model.train_on_batch(*batch)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert float(model.optimizer.dynamic_scale) == 2.0**39


def test_a_run_with_sam_saves_an_ordinary_model(tmp_path):
    data = training.digits()
    model = build_model()
    training.use_sam(model, adaptive=True, rho=0.5)
    result = training.fit(model, data, epochs=1, learning_rate=1e-2, run_dir=tmp_path / "run", verbose=0)
    assert np.isfinite(result.history[0]["loss"])
    loaded = keras.models.load_model(result.best_model)
    assert "train_step" not in vars(loaded)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_invalid_settings_are_rejected():
    class Own(keras.Sequential):
        def train_step(self, data):
            return {}

    with pytest.raises(ValueError, match="rho=0"):
        training.use_sam(linear(), 0)
    with pytest.raises(TypeError, match="Own defines its own train_step"):
        training.use_sam(Own([keras.Input((4,)), keras.layers.Dense(3)]))
