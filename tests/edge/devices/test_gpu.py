"""The GPU's names and messages. tests/edge/devices/real runs files on it."""

import pytest

from keras_vit.edge.devices.gpu import GpuDevice, parsed_refusals
from keras_vit.edge.devices.opening import open_file

# What the accelerator of ai-edge-litert 2.3.0 printed.
LOG = """INFO: Failed to load OpenCL library with dlopen: libOpenCL.so: cannot open shared object file.
ERROR: Following operations are not supported by GPU delegate:
RESHAPE: Tensor "Reshape" has bad input dims size: 6.
STRIDED_SLICE: Max version supported: 2. Requested version 4.
TRANSPOSE: Tensor "Reshape" has bad input dims size: 6.
1 operations will run on the GPU, and the remaining 4 operations will run on the CPU.
I0000 00:00:1795685522.567945   21763 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""


def test_refused_operators_are_read_from_the_log():
    assert parsed_refusals(LOG) == [
        ("RESHAPE", 'Tensor "Reshape" has bad input dims size: 6'),
        ("STRIDED_SLICE", "Max version supported: 2. Requested version 4"),
        ("TRANSPOSE", 'Tensor "Reshape" has bad input dims size: 6'),
    ]
    assert parsed_refusals("INFO: Created a WebGPU environment.\n") == []


@pytest.mark.parametrize("name", ["gpu:0", "gpu?float16", "gpu?float32&x"])
def test_an_unknown_option_is_refused(name):
    with pytest.raises(ValueError, match="device must be 'gpu', 'gpu"):
        GpuDevice(name)


def test_an_onnx_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"runs \.tflite files only"):
        open_file(tmp_path / "m.onnx", device="gpu")
