import math

import keras
import numpy as np
import pytest

from keras_vit import training


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])

    class Embedded(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(name="table", shape=(1, 2, 3), initializer="ones")

        def call(self, inputs):
            return inputs + self.table[:, 0]

    for name in ("position_embedding", "class_token_1", "other"):
        model.add(Embedded(name=name))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    return model


def test_weight_decay_takes_kernels_alone(model):
    optimizer = training.adamw(model, 0.1, total_steps=10, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros_like(v) for v in model.trainable_variables], model.trainable_variables)
    highest = {variable.path: float(keras.ops.max(variable)) for variable in model.trainable_variables}
    decayed = {path: value for path, value in highest.items() if value != 1}
    assert sorted(path.split("/")[-1] for path in decayed) == ["kernel", "table"]
    assert any("other" in path for path in decayed)
    np.testing.assert_allclose(list(decayed.values()), 1 - 0.1 * 0.5, rtol=1e-6)


def test_warm_up_and_cosine_decay(model):
    optimizer = training.adamw(model, 0.2, total_steps=100, warmup_steps=20)
    received = []
    for step in (0, 5, 20, 60, 99, 100):
        optimizer.iterations.assign(step)
        received.append(float(optimizer.learning_rate))
    expected = [0, 0.05] + [0.1 * (1 + math.cos(math.pi * done)) for done in (0, 0.5, 79 / 80, 1)]
    np.testing.assert_allclose(received, expected, atol=1e-7)


def test_without_warm_up_the_first_step_has_the_highest_rate(model):
    assert float(training.adamw(model, 0.2, total_steps=100).learning_rate) == pytest.approx(0.2)


def test_gradients_are_clipped_by_their_norm_over_all_variables(model):
    optimizer = training.adamw(model, 0.1, total_steps=10, clip_norm=0.5)
    gradients = [keras.ops.full(v.shape, 100.0) for v in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    first_moments = [v for v in optimizer.variables if "momentum" in v.path]
    norm = math.sqrt(sum(float(keras.ops.sum(v**2)) for v in first_moments))
    assert norm == pytest.approx((1 - optimizer.beta_1) * 0.5, rel=1e-4)


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_a_warm_up_must_end_before_the_training(model, warmup_steps):
    with pytest.raises(ValueError, match=f"{warmup_steps} of 10 steps"):
        training.adamw(model, 0.1, total_steps=10, warmup_steps=warmup_steps)


def test_a_model_without_variables_is_refused():
    with pytest.raises(ValueError, match="no variables yet"):
        training.adamw(keras.Sequential([keras.layers.Dense(3)]), 0.1, total_steps=10)
