"""Check that the training step of every family is compiled once by XLA, as on a TPU, and computes the same result."""

import keras
import numpy as np
import pytest

from keras_vit import training
from tests.models.cases import build, families, forms_of

STEPS = 4
# One form of each family, and the other forms that are trained differently.
FORMS = [f"{family}: {next(iter(forms_of(family).FORMS))}" for family in families()]
FORMS += ["vit: DeiT", "vit: distilled DeiT with two outputs", "vit: DeiT III"]
QUICK = ("vit: class token",)
# XLA cannot differentiate TensorFlow's bilinear resizing in float64.
FLOAT32 = ("mobilevit: MobileViT",)


@pytest.fixture(autouse=True)
def default_dtype(request):
    """Compute in float64: float32's rounding alone changes the loss of some families by 1e-4 in a few steps."""
    keras.config.set_floatx("float32" if request.node.callspec.params["form"] in FLOAT32 else "float64")
    yield
    keras.config.set_floatx("float32")


def model_and_loss(form):
    """Return a model, and the loss to compile it with."""
    if form != "vit: distilled DeiT with two outputs":
        return build(form, classifier_activation="softmax"), "categorical_crossentropy"
    model = build("vit: distilled DeiT", distillation_outputs=True)
    training.distill(model, build("vit: class token"))
    return model, keras.losses.CategoricalCrossentropy(from_logits=True)


def trained(form, batches=(8,) * STEPS, **how):
    """Return the loss of each step, and how often the step had been traced by then."""
    keras.utils.set_random_seed(0)
    model, loss = model_and_loss(form)
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
        images = random.normal(size=(count, *model.input_shape[1:]))
        labels = np.eye(5)[random.integers(0, 5, count)]
        losses.append(model.train_on_batch(images, labels, return_dict=True)["loss"])
        counts.append(len(traces))
    return losses, counts


@pytest.mark.parametrize(
    "form", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FORMS]
)
def test_xla_compiles_the_training_step_once_and_computes_the_same(form):
    # A batch of another shape is traced again.
    batches = (8,) * STEPS + ((4,) if form in QUICK else ())
    losses, counts = trained(form, batches, jit_compile=True)
    assert counts[:STEPS] == [counts[0]] * STEPS
    assert all(count > counts[0] for count in counts[STEPS:])
    expected, _ = trained(form, batches, run_eagerly=True)
    np.testing.assert_allclose(losses, expected, atol=1e-5 if form in FLOAT32 else 1e-6, rtol=0)
