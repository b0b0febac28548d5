import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from keras_vit.edge.devices.audit import audit
from keras_vit.edge.files.tflite_graph import read_graph


def _written_min_runtime(file):
    """Return the oldest runtime that the converter wrote into the file, from TensorFlow's own table."""
    from ai_edge_litert import schema_py_generated as schema

    with open(file, "rb") as stream:
        model = schema.ModelT.InitFromPackedBuf(stream.read(), 0)
    (entry,) = (entry for entry in model.metadata if entry.name == b"min_runtime_version")
    return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()


def _outside(result):
    return [(finding.op, finding.severity) for finding in result.findings]


def test_a_file_that_the_delegate_runs_whole_has_no_findings(tflite_files):
    result = audit(tflite_files["float32"])
    assert result.partitions == 1
    assert result.findings == []
    assert result.ops == Counter(CONV_2D=1, RESHAPE=1, FULLY_CONNECTED=1, SOFTMAX=1)
    assert "No findings." in str(result)


@pytest.mark.parametrize(
    "name, op, partitions, words",
    [
        ("int8_softmax", "SOFTMAX", 2, "only in float"),
        ("int8_matmul", "BATCH_MATMUL", 2, "right-hand side has zero point -128"),
        ("slice_drops_axis", "STRIDED_SLICE", 2, "drops an axis"),
        ("six_concatenated", "CONCATENATION", 1, "at most 5 tensors; here there are 6"),
        ("gather", "GATHER", 2, "no kernel for GATHER"),
    ],
)
def test_an_operator_outside_the_delegate_is_named_with_its_reason(tflite_files, name, op, partitions, words):
    result = audit(tflite_files[name])
    assert result.partitions == partitions
    assert _outside(result) == [(op, "warning")]
    assert words in result.findings[0].reason
    assert words in str(result)


def test_the_layer_is_named(tmp_path):
    import keras
    import tensorflow as tf

    inputs = keras.Input((4, 8))
    x = keras.layers.Dense(8, name="first_block")(inputs)
    x = keras.layers.Lambda(lambda x: x[:, 0] * 2.0, name="first_token")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, input_signature=[tf.TensorSpec((1, 4, 8), tf.float32)])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    path = tmp_path / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    (finding,) = audit(path).findings
    assert finding.op == "STRIDED_SLICE"
    assert "first_token" in finding.layer


def test_an_operator_outside_the_builtins_is_an_error(tflite_files):
    result = audit(tflite_files["flex"])
    assert _outside(result) == [("FlexErf", "error")]
    assert "Flex" in result.findings[0].reason
    assert result.ops["FlexErf"] == 1


def test_tensors_above_rank_4_get_warnings(tflite_files):
    result = audit(tflite_files["rank_5"])
    assert result.partitions == 1
    assert {(finding.op, finding.severity) for finding in result.findings} == {
        ("RESHAPE", "warning"),
        ("TRANSPOSE", "warning"),
        ("MUL", "warning"),
    }
    assert all("rank 5" in finding.reason for finding in result.findings)


def test_dynamic_shapes_are_errors_where_they_begin(tflite_files):
    first, *_ = audit(tflite_files["dynamic_batch"]).findings
    assert (first.severity, first.op) == ("error", "INPUT")
    assert "(-1, 8, 8, 3)" in first.reason
    errors = [f for f in audit(tflite_files["where"]).findings if f.severity == "error"]
    assert [finding.op for finding in errors] == ["WHERE"]


def test_float16_weights_are_explained(tflite_files):
    result = audit(tflite_files["float16"])
    assert result.partitions == 1
    assert {finding.severity for finding in result.findings} == {"info"}
    assert "no faster" in result.findings[0].reason


def test_the_most_severe_finding_comes_first(tflite_files):
    severities = [finding.severity for finding in audit(tflite_files["where"]).findings]
    assert severities == sorted(severities)  # "error" comes before "warning".
    assert len(set(severities)) == 2


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "gather", "where", "rank_5", "int8_matmul"])
def test_the_oldest_runtime_is_what_the_converter_wrote(tflite_files, name):
    numbers = [int(number) for number in _written_min_runtime(tflite_files[name]).split(".")]
    assert [int(number) for number in audit(tflite_files[name]).min_runtime.split(".")] == numbers


def test_results_go_through_json_unchanged(tflite_files):
    facts = audit(tflite_files["int8_softmax"]).to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["findings"][0]["op"] == "SOFTMAX"


@pytest.mark.parametrize("target", ["cpu", "gpu", "edgetpu"])
@pytest.mark.parametrize("name", ["missing", "empty", "other", "truncated"])
def test_an_unusable_file_is_named(broken_files, name, target):
    with pytest.raises((ValueError, FileNotFoundError), match=f"{name}.tflite"):
        audit(broken_files[name], target)


def test_an_unknown_target_is_refused_with_the_known_ones(tflite_files):
    with pytest.raises(ValueError, match=r"target must be one of 'cpu', 'gpu', .*; received 'toaster'"):
        audit(tflite_files["float32"], target="toaster")


def test_a_missing_schema_gives_the_pip_command(tflite_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match="pip install"):
        audit(tflite_files["float32"])


def test_what_the_gpu_refuses_is_found_in_its_layers(tflite_files, monkeypatch):
    """The accelerator names a tensor, or else only a kind of operator."""
    graph = read_graph(Path(tflite_files["rank_5"]).read_bytes())
    transpose = next(operator for operator in graph.operators if operator.name == "TRANSPOSE")
    refused = [
        ("TRANSPOSE", f'Tensor "{transpose.inputs[0].name}" has bad input dims size: 5'),
        ("MUL", "Max version supported: 2. Requested version 4"),
    ]
    monkeypatch.setitem(audit.__globals__, "refusals", lambda file: refused)
    result = audit(tflite_files["rank_5"], "gpu")
    assert [(finding.op, finding.layer) for finding in result.findings[:1]] == [("TRANSPOSE", transpose.layer)]
    assert (result.evidence, result.partitions) == ("runtime", None)
    assert "by the runtime itself" in str(result) and "unknown number of partitions" in str(result)
    monkeypatch.setitem(audit.__globals__, "refusals", lambda file: [])
    assert audit(tflite_files["rank_5"], "gpu").partitions == 1


@pytest.mark.parametrize("crashes", [False, True])
def test_of_the_operators_of_a_kind_the_gpu_is_asked_about_each_alone(tflite_files, monkeypatch, crashes):
    """The accelerator may refuse a file for a kind of operator without saying which, or end the process."""
    file = tflite_files["gather"]  # It has two products of different sizes.
    first, second = [each for each in read_graph(Path(file).read_bytes()).operators if each.name == "FULLY_CONNECTED"]
    assert first.inputs[0].shape != second.inputs[0].shape

    def refusals(path):
        operators = read_graph(Path(path).read_bytes()).operators
        if not any((each.name, each.inputs[0].shape) == (second.name, second.inputs[0].shape) for each in operators):
            return []
        if crashes:
            raise RuntimeError("the process was killed by SIGILL")
        return [(second.name, "Not supported in this form")]

    monkeypatch.setitem(audit.__globals__, "refusals", refusals)
    result = audit(file, "gpu")
    assert [(each.op, each.layer) for each in result.findings] == [(second.name, second.layer)]
    assert result.findings[0].reason == ("the accelerator crashes on it" if crashes else "Not supported in this form")
    assert result.partitions is None


def test_it_says_whether_the_real_thing_or_rules_decided(tflite_files):
    assert audit(tflite_files["float32"]).evidence == "runtime"
    assert audit(tflite_files["float32"]).to_dict()["evidence"] == "runtime"
    assert audit(tflite_files["float32"], "edgetpu").evidence == "rules"
