"""Each undocumented hook of Keras that keras_vit relies on, in a test that fails when Keras changes it.

A hook is a private attribute of Keras that our code reads, or a method that it overrides or replaces.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
import keras_vit.edge
import keras_vit.training

ROOT = Path(__file__).parents[1]
# By class and method: the parameters that our code passes or takes.
METHODS = {
    keras.Model: {
        "_flatten_layers": ("self", "include_self", "recursive"),  # training.synchronize
        # Replaced by keras_vit.training.steps.
        "train_step": ("self", "data"),
        "compute_loss": ("self", "x", "y", "y_pred", "sample_weight", "training"),
        "compute_metrics": ("self", "x", "y", "y_pred", "sample_weight"),
    },
    keras.Function: {"_run_through_graph": ("self", "inputs", "operation_fn", "call_fn")},  # edge.sensitivity
    keras.Sequential: {"call": ("self", "inputs", "training", "mask", "kwargs")},
    # Overridden by keras_vit.training.optimizers.base.Optimizer.
    keras.optimizers.Optimizer: {
        "_get_variable_index": ("self", "variable"),
        "_apply_weight_decay": ("self", "variables"),
        "_all_reduce_sum_gradients": ("self", "grads_and_vars"),
        "apply": ("self", "grads", "trainable_variables"),
        "build": ("self", "variables"),
        "update_step": ("self", "gradient", "variable", "learning_rate"),
        "add_optimizer_variables": ("self", "trainable_variables", "name", "initializer"),
        "scale_loss": ("self", "loss"),
    },
    # Overridden by keras_vit.training.running.trainer.
    keras.callbacks.CallbackList: {
        "on_train_begin": ("self", "logs"),
        "on_train_end": ("self", "logs"),
        "on_train_batch_begin": ("self", "batch", "logs"),
        "on_train_batch_end": ("self", "batch", "logs"),
    },
}
# Private attributes of objects, which the tests below read.
ATTRIBUTES = {
    "_compile_loss",
    "_compile_metrics",
    "_user_loss_weights",
    "_user_metrics",
    "_user_weighted_metrics",
    "_keras_history",
    "_inbound_nodes",
    "_outbound_nodes",
    "_nodes_by_depth",
    "_learning_rate",
    "_trainable_variables",
    "_distribution_strategy",
}
# Of Python, LiteRT and tensorflow-model-optimization; the tests of what uses them fail if they change.
NOT_OF_KERAS = {"_asdict", "_exit", "_fields", "_get_ops_details", "_maybe_update_block_mask", "_trackable_obj"}


def small_model():
    images = keras.Input((3,))
    return keras.Model(images, keras.layers.Dense(2, name="dense")(images))


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [(owner, name, parameters) for owner, methods in METHODS.items() for name, parameters in methods.items()],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_each_method_has_the_parameters_that_we_rely_on(owner, name, parameters):
    assert tuple(inspect.signature(getattr(owner, name)).parameters)[: len(parameters)] == parameters


def test_a_functional_model_has_a_call_method():
    assert tuple(inspect.signature(type(small_model()).call).parameters)[:4] == ("self", "inputs", "training", "mask")


def test_the_nodes_of_a_graph():
    model = small_model()
    dense = model.get_layer("dense")
    assert model.output._keras_history.operation is dense
    (node,) = dense._inbound_nodes
    assert model.layers[0]._outbound_nodes == [node]
    assert all(isinstance(record, list) for record in (dense._inbound_nodes, dense._outbound_nodes))
    history, index, _ = model.output._keras_history
    assert history is dense and dense._inbound_nodes[index] is node
    assert [tensor._keras_history.operation.name for tensor in node.input_tensors] == [model.layers[0].name]
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    assert {node.operation for node in nodes} == set(model.layers)


def test_the_layers_within_layers_are_flattened():
    outer = keras.Sequential([keras.Input((3,)), small_model()])
    assert "dense" in [layer.name for layer in outer._flatten_layers()]


def test_the_attributes_of_an_optimizer():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model = small_model()
    for rate in (0.1, schedule):
        optimizer = keras.optimizers.SGD(rate)
        optimizer.build(model.trainable_variables)
        assert optimizer._learning_rate is schedule or isinstance(optimizer._learning_rate, keras.Variable)
        assert optimizer._trainable_variables == model.trainable_variables
        assert hasattr(optimizer._distribution_strategy, "extended")
        assert [optimizer._get_variable_index(variable) for variable in model.trainable_variables] == [0, 1]


def test_keras_calls_what_an_optimizer_overrides():
    called = []

    class Optimizer(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            called.append("apply")
            return super().apply(grads, trainable_variables)

        def update_step(self, gradient, variable, learning_rate):
            called.append("update_step")
            return super().update_step(gradient, variable, learning_rate)

        def _apply_weight_decay(self, variables):
            called.append("_apply_weight_decay")

        def _all_reduce_sum_gradients(self, grads_and_vars):
            called.append("_all_reduce_sum_gradients")
            return list(grads_and_vars)

    model = small_model()
    model.compile(Optimizer(0.1, weight_decay=0.5), "mse", run_eagerly=True)
    before = model.get_weights()[0]
    # Images and labels are zero, so only the weight decay, which is overridden, would change the kernel.
    model.train_on_batch(np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32"))
    assert set(called) == {"apply", "update_step", "_apply_weight_decay", "_all_reduce_sum_gradients"}
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_fit_takes_a_list_of_callbacks_as_it_is():
    class Callbacks(keras.callbacks.CallbackList):
        seen = []

        def on_train_begin(self, logs=None):
            self.seen.append("begin")
            super().on_train_begin(logs)

        def on_train_batch_begin(self, batch, logs=None):
            super().on_train_batch_begin(7 + batch, logs)

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(7 + batch, logs)

        def on_train_end(self, logs=None):
            self.seen.append("end")
            super().on_train_end(logs)

    class Batches(keras.callbacks.Callback):
        seen = []

        def on_train_batch_begin(self, batch, logs=None):
            self.seen.append(batch)

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append(batch)

    model = small_model()
    model.compile("sgd", "mse")
    batches = Batches()
    callbacks = Callbacks([batches], add_history=True, model=model, verbose=0, epochs=1, steps=2)
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), batch_size=2, callbacks=callbacks, verbose=0)
    assert callbacks.seen == ["begin", "end"] and batches.seen == [7, 7, 8, 8]


def test_fit_and_evaluate_call_what_the_instance_has():
    model = small_model()
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32")
    model.fit(x, y, verbose=0)
    called = []
    for name in ("call", "train_step", "compute_loss", "compute_metrics"):
        method = getattr(model, name)
        setattr(model, name, lambda *a, name=name, method=method, **k: called.append(name) or method(*a, **k))
    # Setting these to None makes Keras trace the functions again.
    assert model.train_function is not None
    model.train_function = model.test_function = model.predict_function = None
    model.fit(x, y, verbose=0)
    assert set(called) == {"call", "train_step", "compute_loss", "compute_metrics"}
    called.clear()
    model.evaluate(x, y, verbose=0)
    assert {"call", "compute_loss", "compute_metrics"} <= set(called)
    called.clear()
    model.predict(x, verbose=0)
    assert set(called) == {"call"}


def sources():
    for package in ("keras_vit", "training", "edge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"))


def test_a_compiled_model_keeps_what_it_was_compiled_with():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"], weighted_metrics=["mape"], loss_weights=[2.0])
    assert model._compile_loss._user_loss_weights == [2.0]
    assert model._compile_metrics._user_metrics == ["mae"]
    assert model._compile_metrics._user_weighted_metrics == ["mape"]


def test_no_other_private_attribute_is_read():
    """An attribute that begins with one underscore and is not defined in our code belongs to another library."""
    read, defined = set(), set()
    for tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Attribute):
                (read if isinstance(node.ctx, ast.Load) else defined).add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
    private = {name for name in read - defined if name.startswith("_") and not name.startswith("__")}
    known = ATTRIBUTES | {name for methods in METHODS.values() for name in methods}
    assert private - NOT_OF_KERAS - known == set()


def test_no_other_private_method_is_overridden():
    known = {name for methods in METHODS.values() for name in methods}
    found = set()
    packages = (keras_vit, keras_vit.training, keras_vit.edge)
    modules = [name for each in packages for _, name, _ in pkgutil.walk_packages(each.__path__, f"{each.__name__}.")]
    for module in modules:
        if module.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module)).values():
            if not inspect.isclass(value) or not value.__module__.startswith("keras_vit"):
                continue
            of_keras = [base for base in value.__mro__ if base.__module__.startswith("keras.")]
            private = [name for name in vars(value) if name.startswith("_") and not name.startswith("__")]
            found |= {name for name in private if any(name in vars(base) for base in of_keras)}
    assert found - known == set()
    assert "_apply_weight_decay" in found
