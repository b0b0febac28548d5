"""Run the commands and the Python code of README.md in a pseudo-terminal, and check each line that they print."""

import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from keras_vit.models.registry import list_models, list_weights
from keras_vit.training.recipes import list_recipes, recipe
from tests.reference import timm_weights
from tests.terminal import run_in_terminal
from tests.training.pictures import write_folder

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("keras-vit ")]

# Replacements that make the code of the README run in seconds.
SHORTER_COMMANDS = ["--epochs", "2", "--warmup-epochs", "1"]
SHORTER_PYTHON = {
    "epochs=40": "epochs=2",
    "warmup_epochs=5": "warmup_epochs=1",
    "epochs=5,": "epochs=1,",
    "epochs=100": "epochs=1",
    "MobileViT_S(": "MobileViT_XXS(",
    "batch_size=128": "batch_size=16",
}

NUMBER = r"-?[\d.,]+(e[+-]\d+)?"
TABLE = [r"[A-Za-z0-9%_± -]+", r"-[- ]+-"]  # Heading and rule.
EPOCH = rf"Epoch \d+/\d+  step \d+/\d+(  {NUMBER} images/s  [\d a-z]+ left)?(  \w+ {NUMBER})*"
BEST = r"runs/\w+/best\.keras: top-1 [\d.]+% on the validation images, in epoch \d+"
LATENCY = [
    *TABLE,
    rf"\S+\.tflite( +{NUMBER}){{6}}( +{NUMBER}x +(-|{NUMBER} to {NUMBER}))?",
    r"local, 1 thread, ai-edge-litert [\d.]+, \d+ runs in \d launches",
]
AUDIT = [
    r"\S+\.tflite on cpu, by the runtime itself: ai-edge-litert [\d.]+",
    r"\d+ operators in 1 partition; runs on TensorFlow Lite [\d.]+ or newer",
    r"[A-Z0-9_]+ \d+(, [A-Z0-9_]+ \d+)*",
    r"No findings\.",
]
# The lines that each command must print, each at least once.
EXPECTED = {
    "train --dry-run": [r"[a-z0-9_.]+ = .+", r"# .+"],
    "train": [EPOCH, BEST],
    "evaluate": [
        r"Evaluating \S+ \.\.\.",
        r"\S+ on the test images of digits, \d+ x \d+",
        r" +images +top-1 +top-5",
        r"-[- ]+-",
        rf"(all classes|\d) +\d+ +{NUMBER}% +({NUMBER}%|-)",
        r"\S+: evaluation\.json, per_class\.csv, confusion\.png",
    ],
    "list": [r"vit_\w+"],
    "info": [
        r"Building vit_b16 \.\.\.",
        r"name +vit_b16",
        r"function +ViT_B16",
        r"family +ViT",
        r"image size +224 x 224",
        r"parameters +86,567,656",
        r"macs +17,\d{3},\d{3},\d{3}",
        r"paper +.*2010\.11929.*",
        r"licen[cs]e +Apache-2\.0",
        r"top1 +[\d.]+",
        r"top1 weights +\w+",
    ],
    "weights": [*TABLE, rf"\w+ +\d+ x \d+ +(\d+|-) +({NUMBER}|-) +ImageNet.* +[\w.-]+"],
    "inspect": [r"Loading \S+ \.\.\.", r"Computing \S+ on \S+ \.\.\.", r"inspect\.html: open it in a browser"],
    "export": [r"Exporting \S+ \.\.\.", r"\S+\.tflite: [\d.]+ MB"],
    "audit": AUDIT,
    "benchmark": [r"Measuring(: \d+ of \d+ runs)? \.\.\.", *LATENCY],
}
# TensorFlow prints these lines in a user's script, most of them on import and the last one in the first training.
LOGS_OF_TENSORFLOW = [
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
    r"[IE]0000 .* (port|cudart_stub|cpu_feature_guard|cuda_platform)\.cc:\d+\] .*",
    r"To enable the following instructions: .*",
    r"E0000 .* node_def_util\.cc:\d+\] NodeDef mentions attribute use_unbounded_threadpool .*",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with the files that the README assumes: images, and published weights in the cache."""
    folder = tmp_path_factory.mktemp("readme")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), "uint8")
    Image.fromarray(pixels).save(folder / "cat.jpg")
    write_folder(folder / "pets", classes=37, images=2)
    weights = timm_weights("vit_tiny_patch16_224")
    save_file(weights, folder / "vit_tiny.safetensors")
    for record in list_weights("vit_ti16"):
        tokens = 1 + (record.image_size[0] // 16) ** 2
        path = folder / "cache" / record.repository / "model.safetensors"
        path.parent.mkdir(parents=True)
        positions = np.resize(weights["pos_embed"], (1, tokens, 192))
        save_file({**weights, "pos_embed": positions}, path)
    return folder


def environment(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
    return {**kept, "KERAS_VIT_CACHE": str(folder / "cache"), "COLUMNS": "120"}


def test_the_readme_shows_commands_and_code():
    assert len(COMMANDS) >= 10 and len(PYTHON) >= 5


def test_the_counts_are_right():
    papers = [recipe(name).paper for name in list_recipes()]
    # An arXiv number identifies an article, or its authors do if it has none.
    published = [paper for paper in papers if "settings of keras_vit's authors" not in paper]
    articles = {(re.findall(r"\d{4}\.\d{5}", paper) or paper.split(","))[0] for paper in published}
    assert f"{len(published)} recipes of {len(articles)} papers" in README
    assert f"{sum(len(list_weights(name)) for name in list_models())} checkpoints by tag" in README


@pytest.mark.long
def test_the_commands_print_only_expected_lines(folder):
    """Run the commands in one test, because later commands use the files of earlier ones."""
    for line in COMMANDS:
        script, *arguments = shlex.split(line)
        command = arguments[0]
        if "--dry-run" in arguments:
            command = "train --dry-run"
        elif command == "train":
            arguments += SHORTER_COMMANDS
        path = Path(sys.executable).parent / script
        result = run_in_terminal([path, *arguments], cwd=folder, env=environment(folder))
        assert result.code == 0, f"{line}\n{result.output}"
        assert (line, result.unexpected(*EXPECTED[command])) == (line, [])
        assert (line, result.missing(*EXPECTED[command])) == (line, [])


@pytest.mark.long
def test_the_python_code_prints_only_expected_lines(folder):
    """Run all blocks in one process, because later blocks use the names of earlier ones."""
    code = "\n".join(PYTHON)
    for long, short in SHORTER_PYTHON.items():
        assert long in code, long
        code = code.replace(long, short)
    given = "import numpy as np\nimages = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3))\n"
    (folder / "readme.py").write_text(given + code)
    result = run_in_terminal([sys.executable, "readme.py"], cwd=folder, env=environment(folder))
    assert result.code == 0, result.output
    expected = [
        r"keras_vit: pets: \d+ training images; 37 classes .*",
        EPOCH,
        rf"[a-z][\w ,-]+  (int8\.tflite|{NUMBER}%?)",  # edge.verify
        *AUDIT,
        *LATENCY,
        r".*1/1.*/step.*",  # The progress bar of `model.predict`.
        r"timm names: \d+ arrays loaded",
        r"[a-z ]+: head.*",
    ]
    assert result.unexpected(*expected, *LOGS_OF_TENSORFLOW) == []
    assert result.missing(*expected) == []
