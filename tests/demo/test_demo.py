"""`keras-vit demo`, run in a pseudo-terminal. No unexpected line may be printed."""

import sys
from pathlib import Path

import pytest

from tests.terminal import run_in_terminal

NUMBER = r"-?[\d.,]+(e[+-]\d+)?"
EPOCH = rf"Epoch \d+/\d+  step \d+/\d+(  {NUMBER} images/s  [\d a-z]+ left)?(  \w+ {NUMBER})*"
STEPS = [
    r"\[ *\d+ s\] Training a ViT with [\d,]+ parameters on handwritten digits",
    r"\[ *\d+ s\] Quantization-aware training",
    r"\[ *\d+ s\] Exporting the ViT and verifying its files on the test images",
    r"\[ *\d+ s\] Exporting an untrained ViT-Ti/16 and verifying its files",
    r"\[ *\d+ s\] Measuring the latency of all files in turn, with one thread",
    r"\[ *\d+ s\] Done",
]
TABLE = [
    r"Model +File +Size MB +Top-1 % +Agree % +SNR dB +p50 ms +p90 ms +Speedup +Parts",
    r"-[- ]+-",
    *(
        rf"{title} +{file}_{precision}\.tflite( +({NUMBER}|-)){{8}}"
        for title, file in (("digits ViT", "digits_vit"), ("ViT-Ti/16", "vit_ti16"))
        for precision in ("float32", "dynamic_int8", "hybrid_int8")
    ),
    r"demo/report\.html: open it in a browser",
]


@pytest.mark.slow
def test_the_demo_prints_only_expected_lines(tmp_path):
    script = Path(sys.executable).parent / "keras-vit"
    result = run_in_terminal([script, "demo", "--output", "demo"], cwd=tmp_path, timeout=1200)
    assert result.code == 0, result.output
    assert result.unexpected(EPOCH, *STEPS, *TABLE) == []
    assert result.missing(EPOCH, *STEPS, *TABLE) == []

    rows = [line.split() for line in result.lines if ".tflite" in line]
    float32, _, hybrid_int8 = ([float(cell) for cell in row[3:]] for row in rows[:3])
    top1, agreement, snr_db = 1, 2, 3
    assert float32[top1] > 95 and hybrid_int8[top1] > 95
    assert hybrid_int8[agreement] > 99 and hybrid_int8[snr_db] > 30
    assert all(row[-1] == "1" for row in rows)
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
