import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import training
from keras_vit.graph.flattening import leaves
from tests.convnet import convnet
from tests.training.pictures import write_folder

SIZES = (32, 48, (32, 16))
SHAPES = [(32, 32), (48, 48), (32, 16)]


def net(outputs=1):
    """Return a model with batch normalization, dropout and noise, within composite layers and outside."""
    keras.utils.set_random_seed(5)
    body = convnet((32, 32, 3), classes=3)
    x = keras.layers.GaussianNoise(0.1)(body.get_layer("pooling").output)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    scores = [keras.layers.Dense(3, name=f"head_{number}")(x) for number in range(outputs)]
    return keras.Model(body.input, scores if outputs > 1 else keras.layers.Activation("softmax")(scores[0]))


def mobilevit():
    keras.utils.set_random_seed(5)
    return keras_vit.MobileViT_XXS(input_shape=(64, 64, 3), classes=3, dropout_rate=0.2)


def efficientvit():
    keras.utils.set_random_seed(5)
    return keras_vit.EfficientViT_B0(input_shape=(64, 64, 3), classes=3)


def batches(shapes, dynamic=True, count=4):
    random = np.random.default_rng(0)
    arrays = [
        (
            random.normal(size=(count, *shape, 3)).astype("float32"),
            np.eye(3, dtype="float32")[random.integers(0, 3, count)],
        )
        for shape in shapes
    ]
    if not dynamic:
        return arrays
    signature = (tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, 3)))
    found = tf.data.Dataset.from_generator(lambda: iter(arrays), output_signature=signature)
    # Without the cardinality, Keras starts one step too many, which may draw random numbers before the data ends.
    return found.apply(tf.data.experimental.assert_cardinality(len(arrays)))


def arrays_of(model):
    return [keras.ops.convert_to_numpy(v) for _, layer in leaves(model) for v in layer.variables]


def compiled(model, **how):
    model.compile(keras.optimizers.SGD(0.02), "categorical_crossentropy", **how)
    return model


def stepped_by_rebuilding(model, shapes, **how):
    """Run the steps by rebuilding the model at the size of each batch, and return the variables and the losses."""
    losses = []
    for images, labels in batches(shapes, dynamic=False):
        other = compiled(keras_vit.resize_model(model, images.shape[1:]), **how)
        for (_, source), (_, target) in zip(leaves(model), leaves(other), strict=True):
            for new, old in zip(target.variables, source.variables, strict=True):
                new.assign(old)
        losses.append(float(other.train_on_batch(images, labels)))
        model = other
    return arrays_of(model), losses


@pytest.mark.parametrize(
    "build, sizes, shapes, how",
    [
        (net, SIZES[:2], SHAPES[1::-1], {}),
        pytest.param(net, SIZES, [*SHAPES, (48, 48)], {}, marks=pytest.mark.slow),
        (net, SIZES, SHAPES, {"run_eagerly": True}),
        pytest.param(net, SIZES, [*SHAPES, (48, 48)], {"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param(mobilevit, (64, 96), [(96, 96), (64, 64)], {}, marks=pytest.mark.slow),
        pytest.param(efficientvit, (64, 96), [(96, 96), (64, 64)], {}, marks=pytest.mark.slow),
    ],
)
def test_a_step_at_each_size_matches_a_model_of_that_size(build, sizes, shapes, how):
    model = build()
    right, losses = stepped_by_rebuilding(model, shapes, **how)  # XLA draws different random numbers.
    before = arrays_of(model)
    training.train_at_sizes(model, sizes)
    compiled(model, **how)
    history = model.fit(batches(shapes), verbose=0, shuffle=False).history
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)
    received = arrays_of(model)
    paths = [variable.path for _, layer in leaves(model) for variable in layer.variables]
    for path, ours, theirs, old in zip(paths, received, right, before, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=path)
        # All variables change, except those with a zero gradient: biases before a batch normalization.
        assert (ours != old).any() or np.abs(theirs - old).max() < 1e-6, path
    # The check would detect another order of the sizes.
    other, _ = stepped_by_rebuilding(build(), shapes[::-1], run_eagerly=True)
    assert max(np.abs(ours - theirs).max() for ours, theirs in zip(received, other, strict=True)) > 1e-4


def test_prediction_evaluation_and_saving_work_at_every_size(tmp_path):
    model = net()
    training.train_at_sizes(model, SIZES)
    compiled(model, metrics=["accuracy"])
    for images, labels in batches(SHAPES, dynamic=False):
        other = keras_vit.resize_model(net(), images.shape[1:])
        np.testing.assert_allclose(model.predict(images, verbose=0), other.predict(images, verbose=0), atol=1e-6)
        assert model.evaluate(images, labels, verbose=0)[0] > 0
    before = arrays_of(model)
    model.evaluate(batches(SHAPES), verbose=0)
    for ours, old in zip(arrays_of(model), before, strict=True):
        np.testing.assert_array_equal(ours, old)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert "call" not in vars(loaded) and loaded.input_spec[0].shape == (None, 32, 32, 3)
    images = batches(SHAPES, dynamic=False)[0][0]
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6)


def test_sam_uses_the_perturbed_weights():
    steps = {}
    for sized in (False, True):
        model = net()
        if sized:
            training.train_at_sizes(model, SIZES[:2])
        training.use_sam(model, 0.5)
        compiled(model).fit(batches([(32, 32)] * 2, dynamic=sized) if sized else fixed(2), verbose=0, shuffle=False)
        steps[sized] = arrays_of(model)
    for ours, theirs in zip(steps[True], steps[False], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    plain = net()
    compiled(plain).fit(fixed(2), verbose=0, shuffle=False)
    assert max(np.abs(a - b).max() for a, b in zip(steps[True], arrays_of(plain), strict=True)) > 1e-3


def fixed(count):
    return batches([(32, 32)] * count).map(lambda x, y: (tf.ensure_shape(x, (4, 32, 32, 3)), y))


def test_distillation_works_at_several_sizes():
    model, teacher = net(outputs=2), convnet((24, 24, 3), classes=3)
    training.train_at_sizes(model, SIZES)
    training.distill(model, teacher)
    model.compile(keras.optimizers.SGD(0.05), keras.losses.CategoricalCrossentropy(from_logits=True))
    before = arrays_of(model)
    losses = model.fit(batches(SHAPES).repeat(6), epochs=1, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all((ours != old).any() for ours, old in zip(arrays_of(model), before, strict=True) if ours.ndim == 4)


def test_recomputation_gives_the_same_result_at_every_size():
    results = []
    for recomputes in (False, True):
        model = net()
        if recomputes:
            training.recompute(model)
        training.train_at_sizes(model, SIZES[:2])
        compiled(model).fit(batches(SHAPES[:2]), verbose=0, shuffle=False)
        results.append(arrays_of(model))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_run_trains_on_batches_of_several_sizes(tmp_path):
    write_folder(tmp_path / "pictures", images=12)
    scale = training.MultiScale((32, 48), multiple_of=1)
    settings = {"image_size": 32, "batch_size": 6, "multi_scale": scale, "statistics": training.Statistics(0.5, 0.5)}
    data = training.image_folder(tmp_path / "pictures", **settings)
    assert tuple(data.train(0).element_spec[0].shape) == (None, None, None, 3)
    model = convnet((32, 32, 3), classes=3)
    training.train_at_sizes(model, scale.sizes)
    result = training.fit(model, data, epochs=2, learning_rate=0.01, run_dir=tmp_path / "run", verbose=0)
    assert np.isfinite(result.history[-1]["loss"])
    best = keras.models.load_model(result.best_model)
    assert best.evaluate(data.validation, verbose=0, return_dict=True)["accuracy"] >= 0


# Runs in its own process, because the number of devices can't be changed after the first operation.
REPLICAS = """
import numpy as np, tensorflow as tf
from keras_vit import training
from tests.training.steps.test_sizes import *
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
results = []
for strategy in (tf.distribute.get_strategy(), two):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        image = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(image)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
        training.train_at_sizes(model, SIZES)
        compiled(model)
    model.fit(batches(SHAPES), verbose=0, shuffle=False)
    results.append(arrays_of(model))
print(max(np.abs(a - b).max() for a, b in zip(*results)))
with two.scope():
    model = net()
    training.synchronize(model)
    training.train_at_sizes(model, SIZES)
    compiled(model)
try:
    model.fit(batches(SHAPES), verbose=0)
except Exception as error:
    print(type(error).__name__, str(error).replace("\\n", " ")[-1500:])
"""


def test_replicas_give_the_same_result_and_reject_synchronized_layers():
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert result.returncode == 0, result.stderr[-3000:]
    print(result.stdout)
    *_, distance, refusal = result.stdout.splitlines()
    assert float(distance) < 1e-5
    assert "synchronized" in refusal


def test_invalid_settings_are_rejected():
    vit = keras_vit.ViT(input_shape=(16, 16, 3), patch_size=8, width=24, depth=1, num_heads=3, classes=3)
    with pytest.raises(ValueError, match="vit can't be trained at several sizes: the weights of position_embedding"):
        training.train_at_sizes(vit, (16, 32))
    with pytest.raises(TypeError, match="received int"):
        training.train_at_sizes(3, (16, 32))
    flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"has the shape \(192, 3\) at the old size"):
        training.train_at_sizes(flat, (8, 16))
    with pytest.raises(ValueError, match=r"received \(0, 0, 3\)"):
        training.train_at_sizes(net(), (0,))
    model = net()
    training.train_at_sizes(model, SIZES)
    message = "trained at 32 x 32, 48 x 48, 32 x 16; received"
    with pytest.raises(ValueError, match=message):
        model(np.zeros((1, 40, 40, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        compiled(model).fit(batches([(40, 40)]), verbose=0)
