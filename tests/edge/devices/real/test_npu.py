"""Qualcomm's compiler and its x86 emulation of the NPU, and Intel's compiler, through LiteRT's plugins."""

import os
import shutil

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
    here = edge.verify(vit_files["float32"], vit_files[precision], IMAGES)
    there = edge.verify(vit_files["float32"], vit_files[precision], IMAGES, device=f"npu:{soc}")
    # float32 is computed in float16 there.
    assert there.snr_db > min(here.snr_db, 40) - 3


def test_dynamic_int8_is_refused_with_its_layers(tmp_path, tflite_files):
    from tests.edge.models import vit as small

    file = edge.export(small(), tmp_path / "dynamic.tflite", "dynamic_int8")
    audit = edge.audit(file, "npu:SM8750")
    assert audit.evidence == "compiler"
    assert audit.partitions == 1 or all(finding.layer for finding in audit.findings)


@pytest.mark.xdist_group("vit_ti16")
def test_an_old_chip_selects_all_of_it_and_fails(exported, vit_files, tmp_path):
    """SM8350 cannot compute GELU in float, and says so only after it has selected every operator."""
    with pytest.raises(
        edge.CompilationError, match=r"selected (\d+) of \1 operators and then failed: SM8350 .*Gelu"
    ) as raised:
        edge.compile(exported("vit_ti16").files["hybrid_int8"], tmp_path / "out.tflite", "SM8350")
    assert (
        "mlp.activation" in raised.value.layer
        and "Export in full_int8, or compile for a newer chip" in raised.value.reason
    )
    assert not list(tmp_path.iterdir())
    (finding,) = edge.audit(exported("vit_ti16").files["hybrid_int8"], "npu:SM8350").findings
    assert (finding.severity, finding.layer) == ("error", raised.value.layer)
    # What the message advises.
    assert edge.compile(vit_files["full_int8"], tmp_path / "out.tflite", "SM8350").partitions == 1


@pytest.mark.parametrize("soc", ["SM8750", "LNL"])
def test_the_names_of_files_are_only_names(vit_files, tmp_path, monkeypatch, soc):
    monkeypatch.chdir(tmp_path)
    shutil.copy(vit_files["hybrid_int8"], "-a b';$(touch pwned).tflite")
    output = "--o=x `touch pwned`.tflite"
    assert edge.compile("-a b';$(touch pwned).tflite", output, soc).partitions == 1
    assert sorted(os.listdir(tmp_path)) == sorted(["-a b';$(touch pwned).tflite", output])


def test_intel_compiles(vit_files, tmp_path):
    result = edge.compile(vit_files["float32"], tmp_path / "out.tflite", "LNL")
    assert result.partitions == 1 and result.bytes > 0
