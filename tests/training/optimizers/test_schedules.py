import math

import keras
import numpy as np
import pytest

from keras_vit import training

STEPS = [0, 1, 10, 19, 20, 21, 60, 99, 100, 150]


def values(schedule, steps=STEPS):
    return [float(schedule(keras.ops.convert_to_tensor(step, "int64"))) for step in steps]


def warmed_up(decayed, peak=0.4, start=0.02, warmup=20):
    return [start + (peak - start) * step / warmup if step < warmup else decayed(min(step, 100) - 20) for step in STEPS]


@pytest.mark.parametrize(
    ("schedule", "decayed"),
    [
        (
            training.Cosine(0.4, 100, 20, warmup_learning_rate=0.02, final_learning_rate=0.1),
            lambda done: 0.1 + 0.3 * (1 + math.cos(math.pi * done / 80)) / 2,
        ),
        (
            training.Linear(0.4, 100, 20, warmup_learning_rate=0.02, final_learning_rate=0.1),
            lambda done: 0.4 - 0.3 * done / 80,
        ),
        (
            training.InverseSquareRoot(0.4, 100, 20, warmup_learning_rate=0.02, timescale=30, cooldown_steps=40),
            lambda done: 0.4 / math.sqrt(1 + done / 30) * min(1, (80 - done) / 40),
        ),
        (
            training.InverseSquareRoot(0.4, 100, 20, warmup_learning_rate=0.02),
            lambda done: 0.4 / math.sqrt(1 + done / 1e4),
        ),
    ],
    ids=["cosine", "linear", "inverse square root", "without cool-down"],
)
def test_rates_match_the_closed_form(schedule, decayed):
    np.testing.assert_allclose(values(schedule), warmed_up(decayed), rtol=1e-5, atol=1e-7)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert type(again) is type(schedule) and again.get_config() == schedule.get_config()
    assert values(again) == values(schedule)


def test_without_warm_up_the_first_step_uses_the_highest_rate():
    for schedule in (training.Cosine, training.Linear, training.InverseSquareRoot):
        assert values(schedule(0.3, 10), [0]) == [pytest.approx(0.3)]


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_the_warm_up_must_be_shorter_than_the_training(warmup_steps):
    with pytest.raises(ValueError, match=f"{warmup_steps} of 10 steps"):
        training.Linear(0.1, 10, warmup_steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training.Cosine(-0.1, 10), "learning_rate=-0.1"),
        (lambda: training.Cosine(0.1, 10, final_learning_rate=0.2), "final_learning_rate=0.2"),
        (lambda: training.InverseSquareRoot(0.1, 10, 2, cooldown_steps=9), "at most the 8 steps"),
        (lambda: training.InverseSquareRoot(0.1, 10, timescale=0), "timescale=0"),
    ],
)
def test_settings_out_of_range_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
