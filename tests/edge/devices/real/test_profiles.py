"""Profiles against the clock. Nothing else must run meanwhile, so `make test-devices` runs them alone."""

import pytest

from keras_vit import edge
from tests.benchmarks.weights import export_random

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def vit_files(tmp_path_factory):
    """The files of ViT-Ti/16 at 224 pixels: with smaller images, the profiler itself takes much of the time."""
    files = {name: tmp_path_factory.mktemp("vit") / f"{name}.tflite" for name in ("float32", "hybrid_int8")}
    export_random("vit_ti16", files)
    return files


@pytest.mark.parametrize("precision", ["float32", "hybrid_int8"])
@pytest.mark.parametrize("device", ["local", "board"])
def test_the_operators_add_up_to_the_run(vit_files, board, device, precision, record_property):
    """Their times come from the runtime's profiler, and the time of a run from a clock outside.

    The two are measured one after the other, so the machine must be the same for both in one of five attempts.
    """
    for _ in range(5):
        result = edge.profile(vit_files[precision], board.name if device == "board" else "local", runs=100)
        between = result.parts[-1]
        if abs(between.ms) <= 0.05 * result.run_ms:
            break
    record_property("between", between.ms / result.run_ms)
    assert between.name == "between operators" and abs(between.ms) <= 0.05 * result.run_ms
    shares = [entry.limit_ms / entry.ms for entry in result.entries if entry.macs > 1e6]
    assert shares and all(0.01 < share < 1.5 for share in shares)
    assert "limits, measured: float32" in str(result)
