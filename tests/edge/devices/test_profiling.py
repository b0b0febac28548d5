"""Profiles: tables that the programs print, the way back from kernels to layers, and a real profile of this machine."""

import json
from pathlib import Path

import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.cli.main import main
from keras_vit.edge.devices.alignment import align, execution_order
from keras_vit.edge.devices.parts import PARTS, bytes_of, macs_of, part_of, precision_of
from keras_vit.edge.devices.peaks import PRECISIONS, matrix_product
from keras_vit.edge.devices.profiling import profile
from keras_vit.edge.devices.tables import Node, read_nodes
from keras_vit.edge.files.tflite_graph import Operator, Tensor, read_graph

# As benchmark_model of 2025 prints it, with tabs; older ones have a column [start]; the newest pads with spaces.
TABS = """INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t [node type]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]
\t ModifyGraphWithDelegate\t 1.000\t 1.000\t 100%\t 100%\t 0.000\t 1\tModifyGraphWithDelegate/0

Number of nodes executed: 1
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t                             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                     Static Reshape (NC)\t    0.085\t    0.003\t  0.739%\t  4.070%\t     0.000\t        1\tDelegate/Static Reshape (NC):0
\t         Fully Connected (NC, PF32) GEMM\t    0.400\t    0.382\t 93.171%\t 93.171%\t     0.000\t        1\tDelegate/Fully Connected (NC, PF32) GEMM:1
\t                                  GATHER\t    0.010\t    0.020\t  5.000%\t100.000%\t     0.000\t        1\t[model/take]:7

Number of nodes executed: 3
============================== Summary by node type ==============================
\t [Node type]\t [count]
"""  # noqa: E501
SPACES = """================= Run Order ==================
                            [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called]   [Name]
                  Delegate/Convert (NC)      0.000      0.024      0.023     0.243%     0.243%      0.000             20   [Delegate]:0
 Delegate/Convolution (NHWC, QC8) IGEMM      0.000      0.230      0.235     2.501%     2.744%      0.000             20   [Delegate]:1

Number of nodes executed: 2
"""  # noqa: E501
CSV = """node type, first, avg_ms, %, cdf%, mem KB, times called, name
Fully Connected (NC, F32) GEMM, 0.400, 0.382, 93.1%, 93.1%, 0.000, 1, Delegate/Fully Connected (NC, F32) GEMM:1
GATHER, 0.010, 0.020, 5.0%, 100.0%, 0.000, 1, [model/take]:7
"""
# Three of five calls of a run are kernels at the first place of a part.
PARTS_OF_THE_GRAPH = """================= Run Order ==================
                            [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called]   [Name]
                 Delegate/Multiply (ND)      0.000      0.024      0.020     0.243%     0.243%      0.000             60   [Delegate]:0
                                  RSQRT      0.000      0.230      0.001     2.501%     2.744%      0.000             20   [Builtin]:1
                      Delegate/Add (ND)      0.000      0.230      0.005     2.501%     2.744%      0.000             20   [Delegate]:1

"""  # noqa: E501
TRTEXEC = json.dumps(
    [{"count": 864}, {"name": "block_0/mlp", "timeMs": 86.4, "averageMs": 0.1, "medianMs": 0.1, "percentage": 3.0}]
)


def test_tables_of_every_program_are_read():
    assert read_nodes(TABS) == [
        Node("Static Reshape (NC)", 0.003, True, "Delegate/Static Reshape (NC):0"),
        Node("Fully Connected (NC, PF32) GEMM", 0.382, True, "Delegate/Fully Connected (NC, PF32) GEMM:1"),
        Node("GATHER", 0.02, False, "[model/take]:7"),
    ]
    assert [(node.kind, node.ms) for node in read_nodes(SPACES)] == [
        ("Convert (NC)", 0.023),
        ("Convolution (NHWC, QC8) IGEMM", 0.235),
    ]
    assert [(node.kind, node.ms, node.delegated) for node in read_nodes(CSV)] == [
        ("Fully Connected (NC, F32) GEMM", 0.382, True),
        ("GATHER", 0.02, False),
    ]
    nodes = read_nodes(PARTS_OF_THE_GRAPH)
    assert [(node.kind, node.ms) for node in nodes] == [
        ("Multiply (ND)", pytest.approx(0.06)),
        ("RSQRT", 0.001),
        ("Add (ND)", 0.005),
    ]
    assert [(node.name, node.ms) for node in read_nodes(TRTEXEC)] == [("block_0/mlp", 0.1)]
    for text in ("", "[]", "INFO: count=20", "[1, 2]"):
        with pytest.raises(ValueError, match="There is no table of operators"):
            read_nodes(text)


def tensor(*shape, dtype="FLOAT32", constant=False, name="block_0.mlp.dense/x", index=0):
    return Tensor(index, name, shape, dtype, (), (), constant)


def operator(name, inputs, output, options=None):
    return Operator(name, 1, False, tuple(inputs), (output,), options)


def test_arithmetic_is_counted():
    dense = operator("FULLY_CONNECTED", [tensor(1, 10, 16), tensor(32, 16, constant=True)], tensor(1, 10, 32))
    assert macs_of(dense) == 10 * 16 * 32
    assert bytes_of(dense) == 4 * (160 + 512 + 320)
    conv = operator("CONV_2D", [tensor(1, 8, 8, 4), tensor(6, 3, 3, 4, constant=True)], tensor(1, 4, 4, 6))
    assert macs_of(conv) == 4 * 4 * 6 * 3 * 3 * 4
    depthwise = operator(
        "DEPTHWISE_CONV_2D", [tensor(1, 8, 8, 4), tensor(1, 3, 3, 4, constant=True)], tensor(1, 8, 8, 4)
    )
    assert macs_of(depthwise) == 8 * 8 * 4 * 9
    scores = operator("BATCH_MATMUL", [tensor(1, 3, 10, 16), tensor(1, 3, 16, 10)], tensor(1, 3, 10, 10))
    assert macs_of(scores) == 3 * 10 * 10 * 16
    assert macs_of(operator("ADD", [tensor(4), tensor(4)], tensor(4))) == 0
    int8 = operator(
        "FULLY_CONNECTED",
        [tensor(2, 8, dtype="INT8"), tensor(4, 8, dtype="INT8", constant=True)],
        tensor(2, 4, dtype="INT8"),
    )
    assert bytes_of(int8) == 16 + 32 + 8 and precision_of(int8) == "int8"
    dynamic = operator("FULLY_CONNECTED", [tensor(2, 8), tensor(4, 8, dtype="INT8", constant=True)], tensor(2, 4))
    assert precision_of(dynamic) == "dynamic_int8" and precision_of(dense) == "float32"


def test_kernels_find_their_operators():
    """XNNPACK leaves out the second operator, adds a conversion, and computes a 1 x 1 convolution as a dense layer."""
    names = ("CONV_2D", "RELU", "FULLY_CONNECTED", "ADD", "CONV_2D", "SOFTMAX", "GATHER")
    operators = [operator(name, [tensor(1, index=i)], tensor(1, index=i + 1)) for i, name in enumerate(names)]
    kinds = [
        "Convolution (NHWC, F32) IGEMM",
        "Convert (NC, F32, QD8)",
        "Fully Connected (NC, QD8, F32, QC8W) GEMM",
        "Add (ND)",
        "Fully Connected (NC, F32) GEMM",
        "Softmax (NC, F32)",
        "GATHER",
    ]
    assert align([Node(kind, 1.0, True, "") for kind in kinds], operators) == [0, 2, 2, 3, 4, 5, 6]


def test_the_parts_of_a_delegate_run_as_early_as_they_can():
    """The table is needed by the second addition, so the delegate's first part is all that needs no table."""
    operators = [
        operator("ADD", [tensor(1, index=0)], tensor(1, index=1)),
        operator("EXP", [tensor(1, index=1)], tensor(1, index=2)),
        operator("ADD", [tensor(1, index=2)], tensor(1, index=3)),
        operator("MUL", [tensor(1, index=0)], tensor(1, index=4)),
        operator("SUB", [tensor(1, index=3), tensor(1, index=4)], tensor(1, index=5)),
    ]
    assert execution_order(operators, {1}) == [0, 3, 1, 2, 4]
    assert execution_order(operators, set()) == [0, 1, 2, 3, 4]
    nodes = [
        Node("Add (ND)", 1.0, True, "[Delegate]:0"),
        Node("Multiply (ND)", 1.0, True, "[Delegate]:1"),
        Node("EXP", 1.0, False, "[Builtin]:1"),
        Node("Add (ND)", 1.0, True, "[Delegate]:0"),
        Node("Subtract (ND)", 1.0, True, "[Delegate]:1"),
    ]
    assert align(nodes, operators) == [0, 3, 1, 2, 4]


def test_a_profile_of_this_machine_adds_up(vit_file):
    result = profile(vit_file, runs=30, roofline=False)
    assert sum(part.ms for part in result.parts) == pytest.approx(result.run_ms)
    names = [part.name for part in result.parts]
    assert names[-1] == "between operators" and set(names[:-1]) <= set(PARTS)
    assert {"embedding", "projections", "attention products", "softmax", "normalization", "MLP", "head"} <= set(names)
    graph = read_graph(Path(vit_file).read_bytes())
    # All arithmetic is found again, each operator once.
    assert sum(entry.macs for entry in result.entries) == sum(map(macs_of, graph.operators))
    assert any("block_0" in layer and "mlp" in layer for layer in result.layers)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["parts"][0]["name"] == names[0]


def test_every_kernel_is_found_in_a_file_that_the_delegate_runs_in_parts(tmp_path):
    """The runtime computes the reciprocal roots of integers itself."""
    model = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), classes=10, depth=3)
    pictures = np.random.default_rng(0).standard_normal((12, 32, 32, 3)).astype(np.float32)
    file = edge.export(model, tmp_path / "vit.tflite", "full_int8", calibration_data=pictures)
    graph = read_graph(Path(file).read_bytes())
    assert [operator.name for operator in graph.operators].count("RSQRT") == 7
    result = profile(file, runs=5, roofline=False)
    assert [entry.op for entry in result.entries].count("RSQRT") == 7
    assert sum(entry.macs for entry in result.entries) == sum(map(macs_of, graph.operators))
    layers = {entry.layer for entry in result.entries if entry.op == "FULLY_CONNECTED"}
    assert {layer.split(".")[0] for layer in layers} >= {"block_0", "block_1", "block_2", "head"}


def test_the_roofline_says_how_near_each_part_is_to_the_limit(vit_file, capsys):
    result = profile(vit_file, runs=10)
    assert set(result.peaks.gmacs_per_s) == set(PRECISIONS)
    assert result.peaks.gmacs_per_s["int8"] > result.peaks.gmacs_per_s["float32"] > 1
    assert result.peaks.gb_per_s > 0.5
    dense = next(entry for entry in result.entries if entry.op == "FULLY_CONNECTED" and "mlp" in entry.layer)
    rate, bandwidth = result.peaks.gmacs_per_s[dense.precision], result.peaks.gb_per_s
    assert dense.limit_ms == pytest.approx(max(dense.macs / rate / 1e6, dense.bytes / bandwidth / 1e6))
    assert "limits, measured: float32" in str(result)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_of_a_matrix_product_multiplies(tmp_path, precision):
    from ai_edge_litert.interpreter import Interpreter

    (tmp_path / "product.tflite").write_bytes(matrix_product(precision))
    interpreter = Interpreter(str(tmp_path / "product.tflite"))
    interpreter.allocate_tensors()
    (given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()
    one = np.zeros(given["shape"], given["dtype"])
    one[0, 3] = 100
    interpreter.set_tensor(given["index"], one)
    interpreter.invoke()
    row = interpreter.get_tensor(taken["index"])[0].astype(np.float64)
    assert np.count_nonzero(row) > 800 and not interpreter.get_tensor(taken["index"])[1].any()


def test_a_printed_table_is_read_in_place_of_a_run(vit_file, tmp_path, capsys):
    (tmp_path / "table.txt").write_text(TABS)
    assert main(["profile", vit_file, "--table", str(tmp_path / "table.txt"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["run_ms"] == pytest.approx(0.405) and result["peaks"] is None
    assert main(["profile", vit_file, "--runs", "0"]) == 1
    assert "runs must be at least 1" in capsys.readouterr().err


def test_a_file_that_is_broken_is_refused(broken_files):
    with pytest.raises(ValueError, match="truncated or corrupt"):
        profile(broken_files["truncated"])


@pytest.mark.parametrize(
    "op, layer, part",
    [
        ("FULLY_CONNECTED", "block_0.attention.query", "projections"),
        ("FULLY_CONNECTED", "block_0.mlp.dense", "MLP"),
        ("GELU", "block_0.mlp.activation", "MLP"),
        ("MUL", "block_0.norm_1", "normalization"),
        ("CONV_2D", "patch_embedding", "embedding"),
        ("CONV_2D", "stage_1_block_0.expand", "convolutions"),
        ("FULLY_CONNECTED", "head", "head"),
        ("TRANSPOSE", "block_0.attention", "layout"),
        ("DEQUANTIZE", "block_0.mlp", "quantize and dequantize"),
        ("ADD", "block_0.add", "activations and sums"),
    ],
)
def test_operators_belong_to_parts(op, layer, part):
    constant = tensor(4, 4, constant=True)
    assert part_of(operator(op, [tensor(1, 4), constant], tensor(1, 4, name=f"vit/{layer}/op"))) == part


def test_a_device_without_a_profiler_says_so(vit_file):
    with pytest.raises(ValueError, match="gpu has no profiler"):
        edge.profile(vit_file, "gpu")
