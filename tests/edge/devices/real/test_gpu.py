"""LiteRT's GPU accelerator on a Vulkan driver, which may be Mesa's software driver."""

import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.edge.devices.gpu import GpuDevice, refusals
from keras_vit.edge.devices.opening import open_file
from tests.benchmarks.weights import randomize
from tests.edge.models import IMAGES

pytestmark = pytest.mark.device


def test_this_machine_has_what_the_gpu_needs():
    assert [need.what for need in GpuDevice().needs() if need.found is None] == []


@pytest.fixture(scope="module")
def vit_files(vit, tmp_path_factory):
    """The small ViT in several precisions."""
    folder = tmp_path_factory.mktemp("gpu")
    return {
        precision: edge.export(vit, folder / f"{precision}.tflite", precision, calibration_data=IMAGES)
        for precision in ("float32", "float16", "hybrid_int8", "full_int8")
    }


@pytest.mark.parametrize(
    "precision, device, snr_db",
    [
        ("float32", "gpu?float32", 100),
        ("float32", "gpu", 40),
        ("float16", "gpu", 40),
        ("hybrid_int8", "gpu?float32", 100),
    ],
)
def test_the_gpu_gives_the_outputs_of_the_cpu(vit_files, precision, device, snr_db):
    file = vit_files[precision]
    assert edge.verify(file, file, IMAGES, device=device).snr_db >= snr_db


@pytest.mark.parametrize("precision", ["hybrid_int8", "full_int8"])
def test_the_gpu_is_as_near_to_float_as_the_cpu(vit_files, precision):
    """In float16, a value between two steps of int8 may be rounded to the other one, so outputs differ from the CPU."""
    float32, file = vit_files["float32"], vit_files[precision]
    there = edge.verify(float32, file, IMAGES, device="gpu").snr_db
    assert there > edge.verify(float32, file, IMAGES).snr_db - 3


def test_garbage_is_found_out(vit_files):
    """The accelerator reports a float16 file in float32 as wholly accelerated, and computes something else."""
    file = vit_files["float16"]
    with open_file(file, device="gpu?float32") as interpreter:
        assert interpreter.opened["accelerated"]
    assert edge.verify(file, file, IMAGES, device="gpu?float32").snr_db < 10
    with pytest.raises(
        ValueError, match=r"float16\.tflite: gpu\?float32 computes other outputs than this machine's CPU"
    ):
        edge.benchmark(file, "gpu?float32", runs=1)


def test_a_benchmark_on_the_gpu(vit_files):
    result = edge.benchmark(vit_files["float32"], "gpu", runs=20)
    assert len(result.samples_ms) >= 20 and result.snr_db > 40
    assert result.runtime.endswith(", GPU")


def test_what_the_gpu_refuses_is_named(tflite_files):
    found = dict(refusals(tflite_files["rank_5"]))
    assert "TRANSPOSE" in found and "less than 5" in found["RESHAPE"]
    with pytest.raises(ValueError, match=r"the GPU does not run its .*TRANSPOSE.*gpu\?fallback"):
        open_file(tflite_files["rank_5"], device="gpu")
    with open_file(tflite_files["rank_5"], device="gpu?fallback") as interpreter:
        interpreter.allocate()
    assert refusals(tflite_files["float32"]) == []


def test_the_audit_asks_the_accelerator(tflite_files):
    result = edge.audit(tflite_files["rank_5"], "gpu")
    assert result.evidence == "runtime" and "TRANSPOSE" in {finding.op for finding in result.findings}
    assert edge.audit(tflite_files["float32"], "gpu").findings == []


def test_a_mobile_former_without_groups_runs_as_a_whole(tmp_path):
    """Its first block multiplies learned tokens, which are a constant, by the features."""
    model = keras_vit.MobileFormer_52M(classifier_activation=None)
    randomize(model)
    file = edge.export(model, tmp_path / "model.tflite")
    image = np.random.default_rng(0).standard_normal((1, *model.input_shape[1:])).astype(np.float32)
    assert edge.audit(file, "gpu").partitions == 1
    assert edge.verify(file, file, image, device="gpu?float32").snr_db >= 100
