import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import training
from tests.convnet import convnet

ROOT = Path(__file__).parents[3]
RANDOM = np.random.default_rng(0)
LABELS = np.eye(3, dtype="float32")[RANDOM.integers(0, 3, 8)]


def vit(dtype="float32", **settings):
    keras.utils.set_random_seed(3)
    noise = {"drop_path_rate": 0.4, "dropout_rate": 0.2, "attention_dropout_rate": 0.2}
    return keras_vit.ViT(
        input_shape=(16, 16, 3),
        patch_size=4,
        width=24,
        depth=2,
        num_heads=3,
        classes=3,
        dtype=dtype,
        **noise | settings,
    )


def mobilevit():
    keras.utils.set_random_seed(3)
    return keras_vit.MobileViTV2_050(input_shape=(64, 64, 3), classes=3)


def mobile_former():
    keras.utils.set_random_seed(3)
    return keras_vit.create_model("mobile_former_26m", input_shape=(64, 64, 3), classes=3, drop_path_rate=0.3)


def images(model, count=8):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")


def gradients(model, eager=False):
    """Return the loss and the gradients of a training step, and the states after it."""

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, model(x, training=True)))
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, slopes = (step if eager else tf.function(step))(images(model), LABELS)
    return float(loss), [np.array(s) for s in slopes], [np.array(v) for v in model.non_trainable_variables]


def convolutions():
    keras.utils.set_random_seed(3)
    return convnet((16, 16, 3), classes=3)


@pytest.mark.parametrize("build", [vit, convolutions])
def test_recomputation_does_not_change_gradients_and_states(build):
    plain, model = build(), build()
    before = [np.array(v) for v in model.non_trainable_variables]
    training.recompute(model)
    right, received = gradients(plain), gradients(model)
    assert received[0] == pytest.approx(right[0], abs=1e-6)
    scale = max(np.abs(slope).max() for slope in right[1])
    for variable, ours, theirs in zip(model.trainable_variables, received[1], right[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * max(1, scale), err_msg=variable.path)
    for variable, ours, theirs in zip(model.non_trainable_variables, received[2], right[2], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=variable.path)
    assert any((old != new).any() for old, new in zip(before, received[2], strict=True))
    # The check would detect random states and statistics that are updated twice.
    assert max(np.abs(a - b).max() for a, b in zip(gradients(model)[2], right[2], strict=True)) > 1e-3


@pytest.mark.parametrize(
    "build",
    [
        *[functools.partial(vit, dtype) for dtype in ("float32", "mixed_bfloat16", "mixed_float16")],
        pytest.param(mobilevit, marks=pytest.mark.slow),
        pytest.param(mobile_former, marks=pytest.mark.slow),
    ],
)
def test_eager_gradients_and_states_are_identical(build):
    plain, model = build(), build()
    training.recompute(model)
    right, received = gradients(plain, eager=True), gradients(model, eager=True)
    assert received[0] == right[0]
    for ours, theirs in zip([*received[1], *received[2]], [*right[1], *right[2]], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def trained(build, recomputes, sam=False, strategy=None, **how):
    with (strategy or tf.distribute.get_strategy()).scope():
        model = build()
        if recomputes:
            training.recompute(model)
        if sam:
            training.use_sam(model, 0.1)
        training.synchronize(model)
        model.compile(training.optimizer("sgd", model, 0.1, clip_norm=1.0), "categorical_crossentropy", **how)
    model.fit(images(model), LABELS, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


@pytest.mark.parametrize(
    "how",
    [
        {"run_eagerly": True},
        {"run_eagerly": True, "sam": True},
        pytest.param({"sam": True}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True, "sam": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_recomputation_does_not_change_training(how):
    plain, recomputing = (trained(vit, recomputes, **how) for recomputes in (False, True))
    for ours, theirs in zip(recomputing, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(recomputing, vit().variables, strict=True)) > 0.01


# Runs in its own process, because the number of devices can't be changed after the first operation.
REPLICAS = """
import numpy as np, tensorflow as tf
from tests.training.steps.test_recomputation import convolutions, trained, vit
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for build in (vit, convolutions):
    plain, recomputing = (trained(build, recomputes, strategy=two) for recomputes in (False, True))
    print(max(np.abs(a - b).max() for a, b in zip(plain, recomputing)))
"""


@pytest.mark.slow
def test_recomputation_does_not_change_training_on_replicas():
    result = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    assert max(map(float, result.stdout.splitlines()[-2:])) < 1e-5


def test_the_operations_of_a_block_run_twice():
    counts = []
    for recomputes in (False, True):
        model = vit()
        if recomputes:
            training.recompute(model)

        @tf.function
        def step(x, model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(x, training=True))
            return tape.gradient(loss, model.trainable_variables)

        operations = step.get_concrete_function(tf.zeros((8, 16, 16, 3))).graph.get_operations()
        counts.append(sum(operation.type == "Erf" for operation in operations))
    # Erf belongs to GELU, which is only used within the blocks.
    assert counts[1] == 2 * counts[0] > 0


def test_inference_and_saved_and_cloned_models_do_not_recompute(tmp_path):
    model = vit()
    before = model.predict(images(model), verbose=0)
    training.recompute(model)
    training.recompute(model)
    np.testing.assert_array_equal(model.predict(images(model), verbose=0), before)
    model.save(tmp_path / "model.keras")
    for other in (keras.models.load_model(tmp_path / "model.keras"), keras.models.clone_model(model)):
        assert "call" not in vars(other.get_layer("block_0"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images(model), verbose=0), before, atol=1e-6)
    assert len(loaded.variables) == len(vit().variables)
    assert len(keras_vit.flatten(model).layers) == len(keras_vit.flatten(vit()).layers)


def test_a_model_without_blocks_is_rejected():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="plain")
    with pytest.raises(ValueError, match="plain has no blocks"):
        training.recompute(model)


# Each measurement runs in its own process, because the peak memory of a process can't be reset.
STEP = """
import json, re, sys, time
import keras, numpy as np, tensorflow as tf
import keras_vit
from keras_vit import training
recomputes, batch, settings, steps = json.loads(sys.argv[1])
settings = dict(settings)
name = settings.pop("name", None)
model = keras_vit.create_model(name) if name else keras_vit.ViT(**settings)
if recomputes:
    training.recompute(model)
model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
x = np.zeros((batch, *model.input_shape[1:]), "float32")
y = np.zeros(batch, "int64")

def highest():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

built = highest()
seconds = []
for _ in range(steps):
    start = time.perf_counter()
    model.train_on_batch(x, y)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"MB": highest() - built, "peak MB": highest(), "seconds": min(seconds[1:])}))
"""


def measured(recomputes, batch, settings, steps=2):
    arguments = json.dumps([recomputes, batch, settings, steps])
    result = subprocess.run([sys.executable, "-c", STEP, arguments], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_recomputation_reduces_memory():
    settings = {"input_shape": [96, 96, 3], "patch_size": 8, "width": 96, "depth": 12, "num_heads": 3, "classes": 10}
    plain, less = (measured(recomputes, 16, settings) for recomputes in (False, True))
    assert less["MB"] < 0.6 * plain["MB"], (plain, less)  # The measured ratio is 0.5.


@pytest.mark.slow
def test_recomputation_reduces_memory_of_vit_b16():
    plain, less = (measured(recomputes, 16, {"name": "vit_b16"}, 3) for recomputes in (False, True))
    print(plain, less)
    assert less["MB"] < 0.6 * plain["MB"] and less["seconds"] < 1.5 * plain["seconds"], (plain, less)
