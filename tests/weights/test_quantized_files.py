"""Files of quantizers are refused in one sentence, and never loaded as if their integers were weights."""

import ml_dtypes
import numpy as np
import pytest

import keras_vit
from tests.weights.files import arrays, model, refuses, write, write_float8

QKV = "blocks.0.attn.qkv"


def without_weight(**extra):
    content = arrays()
    weight = content.pop(f"{QKV}.weight")
    return content | {f"{QKV}.{name}": array for name, array in extra.items()}, weight


def as_type(dtype, names=lambda name: name.endswith(".weight") and "norm" not in name):
    return {name: array.astype(dtype) if names(name) else array for name, array in arrays().items()}


FORMATS = {
    "int8": lambda: as_type("int8"),
    "uint8": lambda: as_type("uint8"),
    "int16": lambda: as_type("int16"),
    "int32": lambda: as_type("int32"),
    "int64, only the head": lambda: as_type("int64", lambda name: name == "head.weight"),
    "boolean": lambda: as_type("bool", lambda name: name == "blocks.1.mlp.fc1.weight"),
    "GPTQ": lambda: without_weight(
        qweight=np.ones((3, 72), "int32"), qzeros=np.ones((1, 9), "int32"), scales=np.ones((1, 72), "float16"),
        g_idx=np.zeros(24, "int32"),
    )[0],
    "AWQ": lambda: without_weight(
        qweight=np.ones((24, 9), "int32"), qzeros=np.ones((1, 9), "int32"), scales=np.ones((1, 72), "float16")
    )[0],
    "bitsandbytes, 8 bits": lambda: as_type("int8") | {f"{QKV}.SCB": np.ones(72, "float32")},
    "bitsandbytes, 4 bits": lambda: without_weight(**{
        "weight": np.ones((864, 1), "uint8"), "weight.absmax": np.ones(27, "float32"),
        "weight.quant_map": np.ones(16, "float32"), "weight.quant_state.bitsandbytes__nf4": np.ones(80, "uint8"),
    })[0],
    "compressed-tensors": lambda: without_weight(
        weight_packed=np.ones((72, 3), "int32"), weight_scale=np.ones((72, 1), "float16"),
        weight_shape=np.array([72, 24]),
    )[0],
    "Quanto": lambda: without_weight(**{
        "weight._data": np.ones((72, 24), "int8"), "weight._scale": np.ones((72, 1), "float32")
    })[0],
    "scales beside rounded weights": lambda: arrays() | {f"{QKV}.weight_scale": np.ones((72, 1), "float32")},
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("beginning", ["", "module."])
def test_is_refused(kind, beginning, tmp_path):
    path = write(tmp_path, {beginning + name: array for name, array in FORMATS[kind]().items()})
    message = refuses(path, ValueError, "is quantized: '.*' holds .* instead of weights in floating point")
    assert "\n" not in message
    refuses(path, ValueError, "is quantized", partial=True)


@pytest.mark.parametrize("names", ["all", "some"])
def test_float8(names, tmp_path):
    content = {name: array for name, array in arrays().items() if names == "all" or ".weight" in name}
    refuses(write_float8(tmp_path / "f8.safetensors", content), ValueError, "quantized: '.*' holds 8-bit values")


def test_arrays_for_numpy(tmp_path):
    np.savez(tmp_path / "int8.npz", **as_type("int8"))
    refuses(tmp_path / "int8.npz", ValueError, "is quantized: '.*' holds 8-bit values")
    np.savez(tmp_path / "float8.npz", **as_type(ml_dtypes.float8_e4m3fn))
    refuses(tmp_path / "float8.npz", ValueError, "is quantized: '.*' holds 8-bit values")


@pytest.mark.parametrize("dtype", ["float16", "float64", ml_dtypes.bfloat16])
def test_other_floating_point_types_are_no_quantization(dtype, tmp_path):
    target = model()
    content = as_type(dtype)
    keras_vit.load_weights(target, write(tmp_path, content))
    np.testing.assert_array_equal(target.get_layer("head").kernel, content["head.weight"].T.astype("float32"))


def test_integers_that_are_left_out(tmp_path):
    path = write(tmp_path, arrays() | {"encoder.mask": np.ones(4, "int8"), "position_ids": np.arange(4)})
    refuses(path, ValueError, "is quantized: 'encoder.mask'")
    report = keras_vit.load_weights(model(), path, ignore=["encoder.mask", "position_ids"])
    assert report.ignored == ["encoder.mask", "position_ids"]
