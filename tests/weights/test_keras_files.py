"""Files that Keras saved: another depth, size or head, other ways to save, and models around a model."""

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.families import families
from tests.models.cases import forms_of
from tests.weights.files import arrays, assigned, equal, model, refuses

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
both = pytest.mark.parametrize("suffix", ["weights.h5", "keras"])


def saved(source, folder, suffix):
    path = folder / f"source.{suffix}"
    source.save(path) if suffix == "keras" else source.save_weights(path)
    return path


def trained(**settings):
    """Return a model with other weights than those that it is built with."""
    target = model(**settings)
    random = np.random.default_rng(7)
    target.set_weights([random.normal(size=weight.shape) for weight in target.get_weights()])
    return target


@pytest.mark.parametrize("family", families())
def test_every_way_to_save_a_model(family, tmp_path):
    builder, settings = next(iter(forms_of(family).FORMS.values()))
    source, target = (getattr(keras_vit, builder)(**settings) for _ in range(2))
    source.save_weights(tmp_path / "a.weights.h5")
    source.save(tmp_path / "b.keras")
    source.save(tmp_path / "c.h5")
    largest = max(weight.nbytes for weight in source.get_weights()) / 2**30
    source.save_weights(tmp_path / "d.weights.json", max_shard_size=1.01 * largest)
    assert len(list(tmp_path.glob("d_*.weights.h5"))) > 1
    save_file({weight.path: weight.numpy() for weight in source.weights}, tmp_path / "e.safetensors")
    zeros = [np.zeros_like(weight) for weight in target.get_weights()]
    for name in ("a.weights.h5", "b.keras", "c.h5", "d.weights.json", "e.safetensors"):
        target.set_weights(zeros)
        report = keras_vit.load_weights(target, tmp_path / name)
        assert equal(source, target), name
        assert report.project == "Keras" and len(report.loaded) == len(target.weights) and not report.unused


class TestAPartOfALargerModel:
    LARGER = {
        "depth": (dict(depth=4), r"block_2\..* has no counterpart in the model \(the first of 32\)"),
        "registers": (dict(num_registers=4), "register_tokens/0 has no counterpart"),
        "layer scale": (dict(layer_scale=0.1), r"layer_scale1/0 has no counterpart .*first of 4"),
        "pooling": (
            dict(pooling="avg", norm_after_pooling=True),
            "norm/gamma is missing from the file .*fc_norm/0 has no counterpart",
        ),
        "no class token": (dict(class_token=False, pooling="avg"), "class_token/token is missing"),
        "width": (dict(width=48), r"projection/kernel is \(4, 4, 3, 48\) in the file and \(4, 4, 3, 24\) in the model"),
        "patches": (dict(patch_size=8), r"projection/kernel is \(8, 8, 3, 24\) in the file"),
        "MLP": (dict(mlp_dim=48), r"mlp\.expand/kernel is \(24, 48\) in the file and \(24, 96\) in the model"),
        "distillation": (dict(distilled=True), "distillation_token/0 has no counterpart .*first of 3"),
    }

    @both
    @pytest.mark.parametrize("what", LARGER)
    def test_is_refused(self, what, suffix, tmp_path):
        settings, match = self.LARGER[what]
        builder = keras_vit.DeiT if what == "distillation" else keras_vit.ViT
        source = builder(
            **{**dict(classes=5, input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3), **settings}
        )
        refuses(saved(source, tmp_path, suffix), ValueError, match)

    def test_a_part_of_the_model_is_refused_too(self, tmp_path):
        path = saved(trained(), tmp_path, "weights.h5")
        refuses(
            path, ValueError, r"block_2\..* is missing from the file \(the first of 32\).*partial=True", model(depth=4)
        )

    @both
    def test_is_loaded_when_asked(self, suffix, tmp_path):
        source, small = trained(depth=4, num_registers=2), model()
        report = keras_vit.load_weights(small, saved(source, tmp_path, suffix), partial=True)
        assert len(report.loaded) == len(small.weights) and not report.left_as_it_was
        assert {name.split(".")[0].split("/")[0] for name in report.unused} == {"block_2", "block_3", "register_tokens"}
        for layer in small.layers:
            if layer.weights:
                for ours, theirs in zip(layer.weights, source.get_layer(layer.name).weights, strict=True):
                    np.testing.assert_array_equal(ours, theirs)

    def test_a_larger_model_is_filled_in_part_when_asked(self, tmp_path):
        source, large = trained(), model(depth=3)
        last = large.get_layer("block_2").get_weights()
        report = keras_vit.load_weights(large, saved(source, tmp_path, "weights.h5"), partial=True)
        assert len(report.left_as_it_was) == 16 and all(name.startswith("block_2.") for name in report.left_as_it_was)
        assert "left as it was: block_2.norm1/gamma, " in str(report) and str(report).count("\n") == 1
        assert all(np.array_equal(a, b) for a, b in zip(last, large.get_layer("block_2").get_weights(), strict=True))
        np.testing.assert_array_equal(large.get_layer("block_1").norm1.gamma, source.get_layer("block_1").norm1.gamma)

    def test_no_part_of_another_shape_is_loaded(self, tmp_path):
        path = saved(trained(width=48), tmp_path, "weights.h5")
        refuses(path, ValueError, r"\(4, 4, 3, 48\) in the file", partial=True)

    def test_the_names_of_layers_count_and_not_their_numbers(self, tmp_path):
        """A file by hand, in which Keras' numbers are in the opposite order of the blocks."""
        content = arrays()
        expected = assigned(content, model())
        with h5py.File(tmp_path / "hand.weights.h5", "w") as file:
            for number, layer in enumerate(reversed(expected.layers)):
                group = file.create_group(f"layers/kind_{number}")
                group.create_group("vars").attrs["name"] = layer.name
                for weight in layer.weights:
                    *parts, _ = weight.path.removeprefix(f"{layer.name}/").split("/")
                    inside = group.require_group("/".join([*parts, "vars"]))
                    inside[str(len(inside))] = weight.numpy()
        target = model()
        keras_vit.load_weights(target, tmp_path / "hand.weights.h5")
        assert equal(target, expected)
        np.testing.assert_array_equal(target(IMAGES), expected(IMAGES))


class TestAnotherHeadOrSize:
    """As with other files, see test_load.py."""

    @both
    def test_another_number_of_classes(self, suffix, tmp_path):
        source, target = trained(classes=9), model()
        path = saved(source, tmp_path, suffix)
        refuses(path, ValueError, "has 9 classes and the model 'vit' has 5.*head=False")
        head = target.get_layer("head").get_weights()
        for choice in (False, "auto"):
            report = keras_vit.load_weights(target, path, head=choice)
            assert report.left_as_it_was == ["head/kernel", "head/bias"] and not report.unused
        assert all(np.array_equal(a, b) for a, b in zip(head, target.get_layer("head").get_weights(), strict=True))
        np.testing.assert_array_equal(target.get_layer("norm").gamma, source.get_layer("norm").gamma)

    @both
    def test_the_builder_keeps_its_head_and_warns(self, suffix, tmp_path):
        source = trained(classes=9)
        path = saved(source, tmp_path, suffix)
        with pytest.warns(UserWarning, match=r"no weights for these parts of 'vit'.*head/kernel, head/bias"):
            built = model(weights=path)
        assert built.output_shape == (None, 5)
        np.testing.assert_array_equal(built.get_layer("norm").gamma, source.get_layer("norm").gamma)

    def test_a_model_without_the_top(self, tmp_path):
        path = saved(trained(), tmp_path, "weights.h5")
        body = model(include_top=False)
        assert keras_vit.load_weights(body, path).unused == ["head/0", "head/1"]
        headless = saved(trained(include_top=False), tmp_path, "keras")
        assert keras_vit.load_weights(model(), headless, head="auto").left_as_it_was == ["head/kernel", "head/bias"]
        refuses(headless, ValueError, "head/kernel is missing from the file")

    def test_parts_of_the_head_are_only_left_out_with_it(self, tmp_path):
        settings = next(iter(forms_of("efficientvit").FORMS.values()))[1]
        source = keras_vit.EfficientViT(**settings)
        path = saved(source, tmp_path, "weights.h5")
        body = keras_vit.EfficientViT(**settings, include_top=False)
        unused = keras_vit.load_weights(body, path).unused
        assert {name.split("/")[0].split(".")[0] for name in unused} >= {"head", "head_conv", "pre_logits"}

    @both
    def test_another_image_size(self, suffix, tmp_path):
        source, target = trained(), model(input_shape=(24, 32, 3))
        report = keras_vit.load_weights(target, saved(source, tmp_path, suffix))
        assert report.resized == ["position_embedding/table"] and len(report.loaded) == len(target.weights)
        table = source.get_layer("position_embedding").table.numpy()
        expected = keras_vit.layers.resize_positions(table, (4, 4), (6, 8))
        np.testing.assert_allclose(target.get_layer("position_embedding").table, expected, atol=1e-6)

    def test_another_number_of_channels(self, tmp_path):
        source, gray = trained(), model(input_shape=(16, 16, 1))
        report = keras_vit.load_weights(gray, saved(source, tmp_path, "weights.h5"))
        assert report.adapted == ["patch_embedding.projection/kernel"]
        np.testing.assert_allclose(gray(IMAGES[..., :1]), source(np.repeat(IMAGES[..., :1], 3, axis=3)), atol=1e-4)


class TestTraining:
    def compiled(self):
        target = model(dropout_rate=0.1, drop_path_rate=0.1)
        target.compile(keras.optimizers.AdamW(1e-3, use_ema=True), "sparse_categorical_crossentropy", run_eagerly=True)
        target.fit(IMAGES, np.array([0, 1]), verbose=0)
        return target

    def test_a_compiled_model_brings_its_optimizer(self, tmp_path):
        source, target = self.compiled(), model()
        source.save(tmp_path / "model.keras")
        report = keras_vit.load_weights(target, tmp_path / "model.keras")
        assert equal(source, target)
        assert report.unused and all(name.startswith("optimizer/") for name in report.unused)
        assert f"and {len(report.unused) - 6} more" in str(report)

    def test_the_checkpoint_and_the_folder_of_a_run(self, tmp_path):
        from keras_vit.training import TrainingCheckpoint

        source, target = self.compiled(), model()
        TrainingCheckpoint(tmp_path / "checkpoint.safetensors").write(source, 1, 0)
        for path in (tmp_path / "checkpoint.safetensors", tmp_path):
            target.set_weights([np.zeros_like(weight) for weight in target.get_weights()])
            report = keras_vit.load_weights(target, path)
            assert equal(source, target) and report.project == "Keras"
            assert {name.split("/")[0] for name in report.unused} == {"optimizer", "metrics"}
        best = trained()
        best.save(tmp_path / "best.keras")
        (tmp_path / "run.json").write_text("{}")
        keras_vit.load_weights(target, tmp_path)
        assert equal(best, target)


class TestQuantizedModels:
    @pytest.fixture
    def quantized(self):
        from keras_vit import edge

        return edge.quantize_aware(model(depth=1), scheme="hybrid_int8", calibration_data=IMAGES)

    @both
    def test_into_a_model_that_is_not_quantized(self, quantized, suffix, tmp_path):
        remedy = "keras.models.load_model" if suffix == "keras" else "edge.quantize_aware before you load"
        for partial in (False, True):
            path = saved(quantized, tmp_path, suffix)
            refuses(path, ValueError, f"quantized model and 'vit' is not.*{remedy}", model(depth=1), partial=partial)

    def test_a_float_file_into_a_quantized_model(self, quantized, tmp_path):
        path = saved(model(depth=1), tmp_path, "weights.h5")
        refuses(path, ValueError, "not quantized and 'vit' is quantized: load the file .* before", quantized)

    @both
    def test_into_the_same_quantized_model(self, quantized, suffix, tmp_path):
        target = keras.models.clone_model(quantized)
        keras_vit.load_weights(target, saved(quantized, tmp_path, suffix))
        assert equal(quantized, target)

    def test_weights_that_keras_quantized(self, tmp_path):
        path = saved(model(), tmp_path, "weights.h5")
        with h5py.File(path, "r+") as file:  # As `Dense.quantize("int8")` leaves them.
            head = file["layers/dense/vars"]
            bias = head["1"][()]
            del head["0"], head["1"]
            head["0"], head["1"], head["2"] = np.ones((24, 5), "int8"), bias, np.ones(5, "float32")
        refuses(path, ValueError, "is quantized: 'head/kernel' holds 8-bit values instead of .*float32, float16")


class TestModelsAroundAModel:
    def wrapped(self, *backbones):
        image = keras.Input((16, 16, 3))
        x = keras.layers.RandomFlip()(keras.layers.Normalization(name="statistics")(image))
        features = [backbone(x) for backbone in backbones]
        features = features[0] if len(features) == 1 else keras.layers.Concatenate()(features)
        return keras.Model(image, keras.layers.Dense(3, name="own_head")(keras.layers.Dropout(0.1)(features)))

    def backbone(self, name):
        return trained(include_top=False, pooling="token", name=name)

    @both
    def test_around_one_or_two_backbones(self, suffix, tmp_path):
        for names in (("backbone",), ("first", "second")):
            source, target = (self.wrapped(*map(self.backbone, names)) for _ in range(2))
            source.get_layer("statistics").adapt(IMAGES)
            report = keras_vit.load_weights(target, saved(source, tmp_path, suffix))
            assert equal(source, target) and len(report.loaded) == len(target.weights)
            outputs = (each(IMAGES, training=False) for each in (target, source))
            np.testing.assert_array_equal(*outputs)

    def test_the_backbone_of_such_a_file(self, tmp_path):
        source = self.wrapped(self.backbone("inner"))
        path = saved(source, tmp_path, "weights.h5")
        bare = model(include_top=False, pooling="token")
        refuses(path, ValueError, r"more than the weights of 'vit'.*ignore=\['own_head/\*', 'statistics/\*'\]", bare)
        report = keras_vit.load_weights(bare, path, ignore=["own_head/*", "statistics/*"])
        assert equal(bare, source.get_layer("inner")) and report.ignored[0] == "own_head/0"

    def test_one_of_two_backbones(self, tmp_path):
        source = self.wrapped(self.backbone("first"), self.backbone("second"))
        path = saved(source, tmp_path, "weights.h5")
        bare = model(include_top=False, pooling="token")
        refuses(path, ValueError, r"2 copies of the weights.*'first\.' and 'second\.'.*ignore='second\.\*'", bare)
        report = keras_vit.load_weights(bare, path, ignore=["first.*", "own_head/*", "statistics/*"])
        assert equal(bare, source.get_layer("second")) and report.beginning == "second."

    def test_a_layer_with_layers_inside_is_loaded_as_a_whole(self, tmp_path):
        @keras.saving.register_keras_serializable("tests")
        class Tower(keras.layers.Layer):
            def __init__(self, count=2, **kwargs):
                super().__init__(**kwargs)
                self.steps = [keras.layers.Dense(4) for _ in range(count)]

            def build(self, input_shape):
                for step in self.steps:
                    step.build(input_shape)
                    input_shape = (None, 4)

            def call(self, x):
                for step in self.steps:
                    x = step(x)
                return x

        def towered(count=2):
            image = keras.Input((16, 16, 3))
            x = model(include_top=False, pooling="token")(image)
            return keras.Model(image, Tower(count, name="tower")(x))

        source, target = towered(), towered()
        path = saved(source, tmp_path, "weights.h5")
        keras_vit.load_weights(target, path)
        assert equal(source, target)
        refuses(path, ValueError, "only be loaded as a whole.*'tower'", target, partial=True)
        larger = tmp_path / "larger.weights.h5"
        towered(3).save_weights(larger)
        refuses(larger, ValueError, "has 44 arrays and the model has 42 weights", target)


def test_bfloat16_weights(tmp_path):
    source, target = model(dtype="bfloat16"), model()
    keras_vit.load_weights(target, saved(source, tmp_path, "weights.h5"))
    for ours, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(ml_dtypes.bfloat16).astype("float32"))


def test_files_that_keras_did_not_write(tmp_path):
    import zipfile

    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["features"] = np.zeros((3, 4))
    refuses(tmp_path / "data.h5", ValueError, "truncated or not a file that Keras wrote: it contains no layers")
    with zipfile.ZipFile(tmp_path / "archive.keras", "w") as archive:
        archive.writestr("readme.txt", "x")
    refuses(tmp_path / "archive.keras", ValueError, "truncated or not a file that Keras wrote")
    (tmp_path / "shards.weights.json").write_text('{"weight_map": {"/layers/dense/vars": "gone.weights.h5"}}')
    refuses(tmp_path / "shards.weights.json", ValueError, r"gone\.weights\.h5")


def test_arrays_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret.bin").write_bytes(np.ones(24, "float32").tobytes())
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        group = file.create_group("layers/layer_norm/vars")
        group.attrs["name"] = "norm"
        group.create_dataset("0", (24,), "float32", external=[(str(tmp_path / "secret.bin"), 0, 96)])
    refuses(tmp_path / "model.weights.h5", ValueError, "is stored in other files")


def test_a_file_of_another_family(tmp_path):
    source = keras_vit.MobileViT(**next(iter(forms_of("mobilevit").FORMS.values()))[1])
    message = refuses(saved(source, tmp_path, "weights.h5"), ValueError, "weights of another model")
    assert "stem" in message or "missing from the file" in message
