"""Check that the changes to a training step can be combined in any order, and that they can be undone."""

import keras
import numpy as np
import pytest

from keras_vit import training
from tests.convnet import convnet

SIZE, OTHER = (16, 16), (24, 24)
CHANGES = {
    "recompute": lambda model, teacher: training.recompute(model),
    "sizes": lambda model, teacher: training.train_at_sizes(model, (SIZE, OTHER)),
    "distillation": lambda model, teacher: training.distill(model, teacher, kind="soft", weight=0.3),
    "sam": lambda model, teacher: training.use_sam(model, 0.5),
}
REPLACED = {"call", "train_step", "compute_loss", "compute_metrics"}


def new_model(seed=3):
    keras.utils.set_random_seed(seed)
    return convnet((*SIZE, 3), classes=3)


def batch(size=SIZE):
    random = np.random.default_rng(1)
    return random.normal(size=(4, *size, 3)).astype("float32"), np.eye(3, dtype="float32")[[0, 1, 2, 0]]


def stepped(model, *sizes):
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", run_eagerly=True)
    for size in sizes:
        model.train_on_batch(*batch(size))
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def replaced(model):
    return REPLACED & {name for layer in (model, *model.layers) for name in vars(layer)}


def test_the_order_of_the_calls_does_not_matter():
    results = []
    for names in (list(CHANGES), list(CHANGES)[::-1], ["sizes", "sam", "recompute", "distillation"]):
        model, teacher = new_model(), new_model(seed=4)
        for name in names:
            CHANGES[name](model, teacher)
        assert replaced(model) == REPLACED
        results.append(stepped(model, SIZE, OTHER))
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # Distillation and SAM both affect the result. (Recomputation does not.)
    for missing in ("distillation", "sam"):
        model, teacher = new_model(), new_model(seed=4)
        for name in CHANGES.keys() - {missing}:
            CHANGES[name](model, teacher)
        others = stepped(model, SIZE, OTHER)
        assert max(np.abs(ours - theirs).max() for ours, theirs in zip(results[0], others, strict=True)) > 1e-4, missing


@pytest.mark.parametrize("name", CHANGES)
def test_restore_step_undoes_each_change(name):
    model = new_model()
    spec = model.input_spec[0].shape
    CHANGES[name](model, new_model(seed=4))
    assert replaced(model)
    training.restore_step(model)
    assert not replaced(model)
    assert keras.tree.flatten(model.input_spec)[0].shape == spec
    for ours, theirs in zip(stepped(model, SIZE), stepped(new_model(), SIZE), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_rejected_change_keeps_the_current_step():
    model = new_model()
    training.use_sam(model, 0.5)
    with pytest.raises(ValueError, match="received"):
        training.train_at_sizes(model, (0,))
    with pytest.raises(ValueError, match="rho=-1"):
        training.use_sam(model, -1)
    right = new_model()
    training.use_sam(right, 0.5)
    for ours, theirs in zip(stepped(model, SIZE), stepped(right, SIZE), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_restore_step_keeps_a_method_that_other_code_has_replaced():
    model = new_model()
    training.use_sam(model)
    calls = []
    step = model.train_step
    model.train_step = lambda data: calls.append(None) or step(data)
    training.restore_step(model)
    stepped(model, SIZE)
    assert calls
