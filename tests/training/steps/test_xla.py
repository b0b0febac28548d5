"""Check that the training step of every family is compiled once by XLA, as on a TPU, and computes the same result."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import training
from tests.models.vit import forms

STEPS = 4
# About half the channels of the smallest MobileViT, with every kind of block.
MOBILE = dict(stem_channels=8, channels=(8, 8, 12, 12, 16), widths=(8, 12, 16), depths=(1, 1, 1))
FAMILIES = {
    "ViT": (keras_vit.ViT, forms.TINY),
    "DeiT": (keras_vit.DeiT, forms.TINY),
    "distilled DeiT": (keras_vit.DeiT, dict(forms.TINY, distilled=True, distillation_outputs=True)),
    "DeiT III": (keras_vit.DeiT3, forms.TINY),
    "MobileViT": (keras_vit.MobileViT, dict(MOBILE, input_shape=(64, 64, 3), head_channels=24, num_heads=2)),
    "MobileViTV2": (keras_vit.MobileViTV2, dict(MOBILE, input_shape=(64, 64, 3))),
    "MobileFormer": (
        keras_vit.MobileFormer,
        dict(
            input_shape=(64, 64, 3),
            stem_channels=8,
            lite_row=(16, 8, 1),
            rows=((48, 16, 2), (32, 16, 1), (48, 24, 1)),
            num_tokens=3,
            token_width=16,
            head_width=20,
        ),
    ),
    "EfficientViT": (
        keras_vit.EfficientViT,
        dict(
            input_shape=(64, 64, 3),
            channels=(4, 8, 8, 16, 16),
            depths=(1, 2, 1, 1, 1),
            head_dim=8,
            head_channels=(20, 12),
        ),
    ),
    "EfficientViT_MSRA": (
        keras_vit.EfficientViT_MSRA,
        dict(
            input_shape=(128, 128, 3),
            channels=(16, 16, 24),
            depths=(1, 2, 1),
            num_heads=(2, 2, 3),
            kernel_sizes=(5, 3, 3),
        ),
    ),
}
QUICK = ("ViT",)


def build(family):
    """Return a small model of the family, and the loss to compile it with."""
    builder, settings = FAMILIES[family]
    model = builder(**{**settings, "classes": 5})
    if len(model.outputs) == 1:
        return model, "categorical_crossentropy"
    training.distill(model, keras_vit.ViT(**{**forms.TINY, "classes": 5}))
    return model, keras.losses.CategoricalCrossentropy(from_logits=True)


def trained(family, batches=(8,) * STEPS, **how):
    """Return the loss of each step, and how often the step had been traced by then."""
    keras.utils.set_random_seed(0)
    model, loss = build(family)
    traces, step = [], model.train_step

    def train_step(data):
        traces.append(None)
        return step(data)

    model.train_step = train_step
    # AdamW would turn rounding errors into full steps if a gradient is zero.
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss, metrics=["accuracy"], **how)
    random = np.random.default_rng(0)
    losses, counts = [], []
    for count in batches:
        images = random.normal(size=(count, *model.input_shape[1:])).astype("float32")
        labels = np.eye(5, dtype="float32")[random.integers(0, 5, count)]
        losses.append(model.train_on_batch(images, labels, return_dict=True)["loss"])
        counts.append(len(traces))
    return losses, counts


@pytest.mark.parametrize(
    "family", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_xla_compiles_the_training_step_once_and_computes_the_same(family):
    # A batch of another shape is traced again.
    batches = (8,) * STEPS + ((4,) if family in QUICK else ())
    losses, counts = trained(family, batches, jit_compile=True)
    assert counts[:STEPS] == [counts[0]] * STEPS
    assert all(count > counts[0] for count in counts[STEPS:])
    expected, _ = trained(family, batches, run_eagerly=True)
    np.testing.assert_allclose(losses, expected, atol=1e-4, rtol=0)
