"""Check the updates of each optimizer against the algorithm in its paper, in NumPy and float64."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import training

STEPS = 4
DECAY = 0.3
RATES = [0.02, 0.06, 0.1, 0.1 * (1 + math.cos(math.pi / 8)) / 2]  # Warm-up over 2 steps, then a cosine over 8.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def problem():
    random = np.random.default_rng(3)
    weights = [random.normal(size=(4, 3)), random.normal(size=3)]
    return weights, [[random.normal(size=weight.shape) for weight in weights] for _ in range(STEPS)]


def norm(array):
    return math.sqrt(np.square(array).sum())


class AdamW:
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-8
    m = v = 0.0

    def direction(self, g, t):
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        m, v = self.m / (1 - self.beta_1**t), self.v / (1 - self.beta_2**t)
        return m / (np.sqrt(v) + self.epsilon)

    def step(self, w, g, t, rate, decay, kernel):
        return w - rate * (self.direction(g, t) + decay * w)


class LAMB(AdamW):
    epsilon = 1e-6

    def step(self, w, g, t, rate, decay, kernel):
        update = self.direction(g, t) + decay * w
        return w - rate * (norm(w) / norm(update) if kernel else 1) * update


class LARS:
    v = 0.0

    def step(self, w, g, t, rate, decay, kernel):
        local = 0.5 * norm(w) / (norm(g) + decay * norm(w)) if kernel else 1
        self.v = 0.9 * self.v + rate * local * (g + decay * w)
        return w - self.v


class Lion:
    m = 0.0

    def step(self, w, g, t, rate, decay, kernel):
        update = np.sign(0.9 * self.m + 0.1 * g)
        self.m = 0.99 * self.m + 0.01 * g
        return w - rate * (update + decay * w)


class SGD:
    v = 0.0

    def step(self, w, g, t, rate, decay, kernel):
        self.v = 0.9 * self.v - rate * g
        return w + self.v - rate * decay * w


class Adafactor:
    r = c = 0.0

    def step(self, w, g, t, rate, decay, kernel):
        w = w - rate * decay * w
        alpha = max(1e-3, math.sqrt(np.square(w).mean())) * min(rate, 1 / math.sqrt(t))
        beta, squares = 1 - t**-0.8, g**2 + 1e-30
        if kernel:
            self.r = beta * self.r + (1 - beta) * squares.sum(1, keepdims=True)
            self.c = beta * self.c + (1 - beta) * squares.sum(0, keepdims=True)
            v = self.r * self.c / self.r.sum()
        else:
            self.r = v = beta * self.r + (1 - beta) * squares
        u = g / np.sqrt(v)
        return w - alpha * u / max(1, math.sqrt(np.square(u).mean()))


class SOAP:
    beta = 0.95
    m = v = left = right = 0.0

    def step(self, w, g, t, rate, decay, kernel):
        matrix = g if kernel else g[:, None]
        if t > 1:
            q_left, q_right = (self.q_left, self.q_right) if kernel else (np.eye(len(g)), np.eye(1))
            self.m = self.beta * self.m + (1 - self.beta) * matrix
            self.v = self.beta * self.v + (1 - self.beta) * (q_left.T @ matrix @ q_right) ** 2
            m = q_left.T @ self.m @ q_right / (1 - self.beta ** (t - 1))
            n = m / (np.sqrt(self.v / (1 - self.beta ** (t - 1))) + 1e-8)
            w = w - rate * ((q_left @ n @ q_right.T).reshape(w.shape) + decay * w)
        self.left = self.beta * self.left + (1 - self.beta) * matrix @ matrix.T
        self.right = self.beta * self.right + (1 - self.beta) * matrix.T @ matrix
        if t == 1:
            self.q_left, self.q_right = (np.linalg.eigh(p)[1][:, ::-1] for p in (self.left, self.right))
        elif (t - 1) % 2 == 0:
            self.q_left = np.linalg.qr(self.left @ self.q_left)[0]
            self.q_right = np.linalg.qr(self.right @ self.q_right)[0]
        return w


REFERENCES = {
    "adafactor": Adafactor,
    "adamw": AdamW,
    "lamb": LAMB,
    "lars": LARS,
    "lion": Lion,
    "sgd": SGD,
    "soap": SOAP,
}
SETTINGS = {"lars": {"trust": 0.5}, "soap": {"frequency": 2}}


def expected(name, rates=RATES, decay=DECAY, steps=STEPS):
    weights, gradients = problem()
    for index in range(2):
        update = REFERENCES[name]()
        for t, rate in enumerate(rates[:steps], 1):
            weights[index] = update.step(
                weights[index], gradients[t - 1][index], t, rate, 0.0 if index else decay, not index
            )
    return weights


def model_of(weights):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.set_weights(weights)
    return model


def trained(name, jit=False, **settings):
    weights, gradients = problem()
    model = model_of(weights)
    schedule = training.Cosine(0.1, 10, 2, warmup_learning_rate=0.02)
    optimizer = training.optimizer(name, model, schedule, weight_decay=DECAY, **{**SETTINGS.get(name, {}), **settings})
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit)
    def step(gradients):
        optimizer.apply(gradients, model.trainable_variables)

    for gradient in gradients:
        step([tf.constant(g, "float32") for g in gradient])
    return model, optimizer


def test_the_reference_rates_match_the_schedule():
    schedule = training.Cosine(0.1, 10, 2, warmup_learning_rate=0.02)
    np.testing.assert_allclose([float(schedule(step)) for step in range(STEPS)], RATES, rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", REFERENCES)
def test_updates_match_the_paper(name, jit):
    model, _ = trained(name, jit)
    for received, right in zip(model.get_weights(), expected(name), strict=True):
        np.testing.assert_allclose(received, right, **TOLERANCE)
    # The check would detect a rate or a decay that is too high by 0.1 %.
    for wrong in (expected(name, rates=[1.001 * rate for rate in RATES]), expected(name, decay=1.001 * DECAY)):
        assert not np.allclose(model.get_weights()[0], wrong[0], **TOLERANCE)


def test_a_zero_norm_does_not_scale_the_rate():
    for name in ("lamb", "lars"):
        model = model_of([np.zeros((4, 3)), np.zeros(3)])
        optimizer = training.optimizer(name, model, 0.5, weight_decay=0.1)
        gradients = [np.full((4, 3), 2.0, "float32"), np.zeros(3, "float32")]
        optimizer.apply([tf.constant(g) for g in gradients], model.trainable_variables)
        kernel, bias = model.get_weights()
        # LAMB steps by the rate, since its direction is 1. LARS steps by rate * trust * gradient.
        np.testing.assert_allclose(kernel, -0.5 if name == "lamb" else -0.5 * 0.001 * 2, rtol=1e-5)
        np.testing.assert_array_equal(bias, 0)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_norms_are_taken_over_all_axes(shape):
    variable = keras.Variable(np.arange(1.0, 1 + math.prod(shape)).reshape(shape))
    for optimizer, length in ((training.LAMB(0.1), norm(variable) * 0.1), (training.LARS(0.1), norm(variable) * 1e-4)):
        before = np.array(variable)
        optimizer.apply([tf.ones(shape)], [variable])
        assert norm(before - np.array(variable)) == pytest.approx(length, rel=1e-4)
        variable.assign(before)


def test_soap_accepts_any_shape_and_keeps_no_basis_for_long_sides():
    random = np.random.default_rng(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.DepthwiseConv2D(3)(keras.layers.Conv2D(5, 3)(image))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    before = model.get_weights()
    optimizer = training.optimizer("soap", model, 0.01, max_size=20)
    optimizer.build(model.trainable_variables)
    shapes = [tuple(v.shape) for v in optimizer.variables if "basis" in v.path]
    # The kernels are 27 x 5, 9 x 5 and 20 x 2; the biases have no basis.
    assert shapes == [(5, 5), (9, 9), (5, 5), (20, 20), (2, 2)]
    for _ in range(3):
        gradients = [tf.constant(random.normal(size=v.shape), "float32") for v in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
    assert all(np.isfinite(after).all() for after in model.get_weights())
    assert all((after != earlier).all() for after, earlier in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("name", REFERENCES)
def test_layer_wise_factors_scale_the_learning_rate(name):
    weights, gradients = problem()
    received = {}
    for layer_decay in (1.0, 0.25):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(4, use_bias=False)])
        model.set_weights([*weights, np.eye(3, 4)])
        optimizer = training.optimizer(
            name,
            model,
            training.Cosine(0.1, 10, 2, warmup_learning_rate=0.02),
            weight_decay=DECAY,
            layer_decay=layer_decay,
            **SETTINGS.get(name, {}),
        )
        for gradient in gradients:
            third = tf.constant(gradient[0].T, "float32")
            optimizer.apply([*(tf.constant(g, "float32") for g in gradient), third], model.trainable_variables)
        received[layer_decay] = model.get_weights()
    # The first layer is one step from the head.
    for value, right in zip(received[0.25], expected(name, rates=[rate / 4 for rate in RATES]), strict=False):
        np.testing.assert_allclose(value, right, **TOLERANCE)
    np.testing.assert_array_equal(received[0.25][2], received[1.0][2])
    assert not np.allclose(received[0.25][0], received[1.0][0], atol=1e-4)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_accumulation_averages_the_gradients_of_the_batches_for_one_update(jit):
    model, optimizer = trained("adamw", jit, accumulation_steps=2, clip_norm=1.0, ema_decay=0.5)
    weights, gradients = problem()
    averages = []
    for index in range(2):
        update, average = AdamW(), None
        for t in (1, 2):
            pair = [(a + b) / 2 for a, b in zip(*gradients[2 * t - 2 : 2 * t], strict=True)]
            scale = min(1.0, 1.0 / math.sqrt(sum(norm(g) ** 2 for g in pair)))
            # The schedule counts updates.
            weights[index] = update.step(
                weights[index], scale * pair[index], t, RATES[t - 1], 0 if index else DECAY, True
            )
            average = weights[index] if average is None else 0.5 * average + 0.5 * weights[index]
        averages.append(average)
    assert int(optimizer.iterations) == 2
    for received, right in zip([*model.get_weights(), *optimizer.averages], [*weights, *averages], strict=True):
        np.testing.assert_allclose(received, right, **TOLERANCE)


@pytest.mark.parametrize("warmup", [False, True])
def test_the_moving_average_is_exponential(warmup):
    _, optimizer = trained("sgd", ema_decay=0.9, ema_warmup=warmup)
    for index in range(2):
        average = None
        for t in range(1, STEPS + 1):
            decay = min(0.9, 1 - t ** (-2 / 3)) if warmup else 0.9
            weight = expected("sgd", steps=t)[index]
            average = weight if average is None else decay * average + (1 - decay) * weight
        np.testing.assert_allclose(optimizer.averages[index], average, **TOLERANCE)


def test_gradients_are_clipped_by_value():
    model = model_of(problem()[0])
    gradients = [tf.fill((4, 3), 3.0), tf.fill((3,), -0.1)]
    before = model.get_weights()
    optimizer = training.optimizer("sgd", model, 1.0, clip_value=0.5, momentum=0.0)
    optimizer.apply(gradients, model.trainable_variables)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(before[0] - kernel, 0.5, rtol=1e-5)
    np.testing.assert_allclose(before[1] - bias, -0.1, rtol=1e-5)
    # test_accumulation_averages_the_gradients_of_the_batches_for_one_update covers clipping by the norm.


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_variable_without_a_gradient_does_not_change(accumulation_steps):
    model = model_of(problem()[0])
    before = model.get_weights()
    optimizer = training.optimizer("adamw", model, 0.1, accumulation_steps=accumulation_steps)
    for _ in range(2):
        optimizer.apply([tf.ones((4, 3)), None], model.trainable_variables)
    assert (model.get_weights()[0] != before[0]).all()
    np.testing.assert_array_equal(model.get_weights()[1], before[1])
