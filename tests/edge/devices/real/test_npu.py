"""Qualcomm's compiler and its x86 emulation of the NPU, and Intel's compiler, through LiteRT's plugins."""

import pytest

from keras_vit import edge
from tests.edge.models import IMAGES

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def vit_files(vit, tmp_path_factory):
    """The small ViT in several precisions."""
    folder = tmp_path_factory.mktemp("npu")
    return {
        precision: edge.export(vit, folder / f"{precision}.tflite", precision, calibration_data=IMAGES)
        for precision in ("float32", "hybrid_int8", "int8_int16", "full_int8")
    }


@pytest.mark.parametrize("soc", ["SM8550", "SM8750"])
@pytest.mark.parametrize("precision", ["float32", "hybrid_int8", "int8_int16", "full_int8"])
def test_the_emulated_npu_gives_the_outputs_of_the_cpu(vit_files, tmp_path, soc, precision):
    result = edge.compile(vit_files[precision], tmp_path / "out.tflite", soc)
    assert (result.partitions, result.refusals) == (1, [])
    here = edge.verify(vit_files["float32"], vit_files[precision], IMAGES[:2])
    there = edge.verify(vit_files["float32"], vit_files[precision], IMAGES[:2], device=f"npu:{soc}")
    # float32 is computed in float16 there.
    assert there.snr_db > min(here.snr_db, 40) - 3


def test_dynamic_int8_is_refused_with_its_layers(tmp_path, tflite_files):
    from tests.edge.models import vit as small

    file = edge.export(small(), tmp_path / "dynamic.tflite", "dynamic_int8")
    audit = edge.audit(file, "npu:SM8750")
    assert audit.evidence == "compiler"
    assert audit.partitions == 1 or all(finding.layer for finding in audit.findings)


def test_intel_compiles(vit_files, tmp_path):
    result = edge.compile(vit_files["float32"], tmp_path / "out.tflite", "LNL")
    assert result.partitions == 1 and result.bytes > 0
