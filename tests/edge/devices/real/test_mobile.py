"""Published mobile models on the GPU accelerator and on emulated NPUs, against the CPU."""

import pytest

from keras_vit import edge
from keras_vit.edge.devices.opening import open_file
from tests.edge.devices.real.mobile import MODELS

pytestmark = pytest.mark.device

# The tests of a model run in one process, which exports its files once.
NAMES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in MODELS]


# What the accelerator crashes on, by model: convolutions in groups of 3 or 6 channels.
CRASHES = {"mobile_former_26m": "CONV_2D"}


@pytest.mark.parametrize(
    "device, precision, least_db", [("gpu?float32", "float32", 100), ("gpu", "float32", 40), ("gpu", "float16", 40)]
)
@pytest.mark.parametrize("name", NAMES)
def test_the_gpu_gives_the_outputs_of_the_cpu(exported, name, device, precision, least_db, record_property):
    """`gpu` computes in float16 and refuses a file that it does not run as a whole."""
    file, image = exported(name).files[precision], exported(name).image
    if name in CRASHES:
        with pytest.raises(RuntimeError, match=r"killed by SIG.*keras-vit audit --target gpu"):
            open_file(file, device=device)
        if (device, precision) == ("gpu", "float32"):
            findings = edge.audit(file, "gpu").findings
            assert {finding.op for finding in findings} == {CRASHES[name]}
            assert all(finding.layer.endswith(".conv_1") for finding in findings)
        return
    snr_db = edge.verify(file, file, image, device=device).snr_db
    record_property("snr_db", snr_db)
    assert snr_db >= least_db


@pytest.mark.parametrize("precision", ["hybrid_int8", "int8_int16"])
@pytest.mark.parametrize("soc", ["SM8550", "SM8750"])
@pytest.mark.parametrize("name", NAMES)
def test_an_emulated_npu_is_as_near_to_float_as_the_cpu(exported, name, soc, precision, tmp_path, record_property):
    """The emulation runs only files that are compiled as a whole, as all are in hybrid_int8.

    An NPU computes in float16 what a file has in float, so it is no nearer than it is with the float32 file.
    """
    files, image = exported(name).files, exported(name).image
    compilation = edge.compile(files[precision], tmp_path / "compiled.tflite", soc)
    if precision == "int8_int16" and compilation.refusals:
        assert compilation.selected + len(compilation.refusals) == compilation.operators
        assert all(refusal.layer and "int16 activations" in refusal.reason for refusal in compilation.refusals)
        with pytest.raises(ValueError, match="the NPU does not run all of it"):
            edge.verify(files[precision], files[precision], image, device=f"npu:{soc}")
        return
    assert (compilation.partitions, compilation.refusals) == (1, [])
    here = edge.verify(files["float32"], files[precision], image).snr_db
    there = edge.verify(files["float32"], files[precision], image, device=f"npu:{soc}").snr_db
    record_property("snr_db", there)
    record_property("cpu_snr_db", here)
    in_float16 = edge.verify(files["float32"], files["float32"], image, device=f"npu:{soc}").snr_db
    assert there > min(here, in_float16) - 3
