"""Compiling for NPUs, with a stand-in for LiteRT's compiler that prints what it printed with Qualcomm's libraries."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from keras_vit import edge
from keras_vit.cli.main import main
from keras_vit.edge.devices import compilation
from keras_vit.edge.devices.npu import NpuDevice

LICENSED = "Qualcomm's AI Stack License Agreement"
SELECTED = (
    "INFO: [compiler_plugin.cc:742] Partitioned subgraph<0>, "
    "selected {} ops, from a total of {} ops. resulted in {} partitions."
)
# The end of the log for ViT-Ti/16 on SM8350. In hybrid_int8, operators that are not to blame come first.
GELU = """     0.0ms [ ERROR ]  graph_prepare.cc:1878::ERROR:Op 0x401b0000006c preparation failed with err:-1
     0.0ms [ ERROR ]   <E> "vit/patch_embedding/Dequantize_538_LiteRt_OpId_0" generated: could not create op
     0.0ms [ ERROR ]   <E> "vit/mlp/Gelu/ElementWiseNeuron_471_LiteRt_OpId_{}" generated: could not create op
     0.0ms [ ERROR ]  could not create op: q::QNN_Gelu
     0.0ms [ ERROR ]   <E> RouterX86 graph prepare failed 12
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Qualcomm's package, and a compiler that prints a log, ends with a code, and writes a file or none."""
    package = tmp_path / "site" / "onnxruntime_qnn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "libQnnSaver.so").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))

    def behaves(log, code=0, written=None):
        script = tmp_path / "compiler.py"
        lines = ["import os, sys, shutil", f"print({log!r})"]
        lines.append("folders = os.environ['LD_LIBRARY_PATH'].split(':')")
        lines.append("assert any(os.path.exists(folder + '/libQnnLpai.so') for folder in folders), folders")
        lines += [f"shutil.copy({str(written)!r}, sys.argv[1])"] if written else []
        script.write_text("\n".join([*lines, f"sys.exit({code})"]))

        def command(vendor, litert, file, output, soc):
            assert (vendor.manufacturer, soc) == ("Qualcomm", "SM8750") and Path(file).is_absolute()
            return [sys.executable, str(script), output]

        monkeypatch.setattr(compilation, "_command", command)

    return behaves


def test_a_compiled_file_says_what_is_left_to_the_cpu(compiler, tflite_files, tmp_path, capsys):
    compiler(SELECTED.format(3, 4, 2), written=tflite_files["float32"])
    result = edge.compile(tflite_files["float32"], tmp_path / "out.tflite", "SM8750")
    assert (result.selected, result.operators, result.partitions) == (3, 4, 2)
    assert (tmp_path / "out.tflite").read_bytes() == Path(tflite_files["float32"]).read_bytes()
    assert [refusal.op for refusal in result.refusals] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    assert "3 of 4 operators on the NPU of Qualcomm's SM8750 in 2 partitions" in str(result)
    arguments = ["compile", tflite_files["float32"], str(tmp_path / "out.tflite"), "--soc", "SM8750"]
    assert main(arguments) == 0 and "2 partitions" in capsys.readouterr().out
    audit = edge.audit(tflite_files["float32"], "npu:SM8750")
    assert (audit.partitions, audit.evidence, len(audit.findings)) == (2, "compiler", 4)


def test_selecting_is_not_enough(compiler, tflite_files, tmp_path):
    """For an old chip, the compiler selects all operators and fails afterwards."""
    compiler(SELECTED.format(4, 4, 1) + "\n" + GELU.format(2), code=6)
    with pytest.raises(
        edge.CompilationError, match=r"selected 4 of 4 operators and then failed: SM8750 cannot compute Gelu"
    ):
        edge.compile(tflite_files["float32"], tmp_path / "out.tflite", "SM8750")
    assert not (tmp_path / "out.tflite").exists()
    (finding,) = edge.audit(tflite_files["float32"], "npu:SM8750").findings
    assert finding.severity == "error" and finding.op == "FULLY_CONNECTED" and "full_int8" in finding.reason
    compiler("ERROR: no plugin here.", code=6)
    with pytest.raises(edge.CompilationError, match="failed with exit code 6: no plugin here"):
        edge.compile(tflite_files["float32"], tmp_path / "out.tflite", "SM8750")


@pytest.mark.parametrize(
    "soc, words",
    [
        ("SM8750", rf'pip install "keras-vit\[qualcomm\]" \(.*{LICENSED}'),
        ("LNL", r'pip install "keras-vit\[intel\]"'),
        ("MT6989", "MediaTek's compiler is not published on PyPI: .*--soc_manufacturer=MediaTek --soc_model=MT6989"),
        ("Tensor_G5", "Google's compiler is not published on PyPI: .*google_tensor"),
        ("E9955", "Samsung's compiler is not published on PyPI: .*--soc_manufacturer=Samsung"),
    ],
)
def test_without_the_libraries_of_a_vendor_the_message_says_how_to_get_them(
    tflite_files, tmp_path, monkeypatch, soc, words
):
    real = compilation.importlib.util.find_spec
    hidden = ("onnxruntime_qnn", "openvino")
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None if name in hidden else real(name))
    with pytest.raises(ImportError, match=words):
        edge.compile(tflite_files["float32"], tmp_path / "out.tflite", soc)


def test_the_command_for_a_vendor_holds_for_any_name_of_a_file(tflite_files, tmp_path):
    name = tmp_path / "a b';$(touch pwned).tflite"
    shutil.copy(tflite_files["float32"], name)
    with pytest.raises(ImportError) as raised:
        edge.compile(name, tmp_path / "out.tflite", "MT6989")
    command = str(raised.value).partition("and run `")[2].partition("`.")[0]
    assert f"--model={name}" in shlex.split(command)


@pytest.mark.parametrize("soc", ["X1", "", "SM", "--soc=SM8750", "SM8750; touch x"])
def test_an_unknown_chip_is_refused(tflite_files, tmp_path, soc):
    with pytest.raises(ValueError, match="soc must be the name of a chip"):
        edge.compile(tflite_files["float32"], tmp_path / "out.tflite", soc)


def test_a_broken_file_is_refused(broken_files, tmp_path):
    with pytest.raises(ValueError, match="truncated or corrupt"):
        edge.compile(broken_files["truncated"], tmp_path / "out.tflite", "SM8750")


def test_the_emulation_has_no_times(tflite_files):
    with pytest.raises(ValueError, match="is an emulation, whose times mean nothing"):
        edge.benchmark(tflite_files["float32"], "npu:SM8750")
    with pytest.raises(ValueError, match="only the NPUs of Qualcomm's chips"):
        NpuDevice("npu:MT6989")
    assert any(LICENSED in (need.found or "") for need in NpuDevice("npu:SM8750").needs())


def test_the_edge_tpu_by_rules(tflite_files):
    assert edge.audit(tflite_files["int8"], "edgetpu").findings == []
    result = edge.audit(tflite_files["float32"], "edgetpu")
    assert result.evidence == "rules" and {finding.op for finding in result.findings} >= {"CONV_2D", "SOFTMAX"}
    assert "by rules, not by trying" in str(result) and "export in full_int8" in str(result)
    assert "the Edge TPU has no BATCH_MATMUL" in str(edge.audit(tflite_files["int8_matmul"], "edgetpu"))


def test_jetson_by_rules(tmp_path):
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto

    def model(name, kind, zero_point, opset=20):
        ends = [helper.make_tensor_value_info(end, kinds.FLOAT, [1, 4]) for end in ("x", "y")]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ]
        constants = [
            helper.make_tensor("scale", kinds.FLOAT, [], [0.1]),
            helper.make_tensor("zero", kind, [], [zero_point]),
        ]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), tmp_path / name
        )
        return edge.audit(tmp_path / name, "jetson")

    assert model("good.onnx", kinds.INT8, 0).findings == []
    assert "uint8; TensorRT takes int8 only" in str(model("unsigned.onnx", kinds.UINT8, 128))
    assert "its zero point is not 0" in str(model("shifted.onnx", kinds.INT8, 3))
    assert model("new.onnx", kinds.INT8, 0, 21).findings[0].severity == "warning"
    with pytest.raises(ValueError, match=r"takes \.onnx files"):
        edge.audit(tmp_path / "m.tflite", "jetson")
    shutil.copy(__file__, tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"text\.onnx is not an \.onnx file"):
        edge.audit(tmp_path / "text.onnx", "jetson")
