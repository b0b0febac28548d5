"""Run the code in the documentation, unchanged."""

import runpy
import shlex
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save

import keras_vit
from keras_vit.cli.main import main
from tests.docs.pages import ROOT, blocks, pages_with
from tests.reference import timm_weights
from tests.training.pictures import write_folder
from tests.weights.hub_server import serve


def page_name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def flowers(tmp_path):
    """Make a folder of class folders with small pictures, which the pages call "flowers"."""
    write_folder(tmp_path / "flowers", classes=3, images=10)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Run a hub with one checkpoint of ViT-Ti/16: the weights of its fixture."""
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    record = next(known for known in keras_vit.list_weights("vit_ti16") if known.tag == "augreg_in21k_ft_in1k")
    with serve() as (address, hub):
        monkeypatch.setenv("HF_ENDPOINT", address)
        hub.put(record, save(timm_weights("vit_tiny_patch16_224")))
        yield


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with("python"), ids=page_name)
def test_python_blocks_run(page, tmp_path, monkeypatch, flowers, hub):
    """The blocks of a page share their names, as for a reader who follows the page from the top."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__", "images": np.random.default_rng(0).integers(0, 256, (2, 300, 400, 3), "uint8")}
    for block in blocks(page, "python"):
        # Empty lines replace the lines before the block, so that a traceback has the line numbers of the page.
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)


@pytest.mark.parametrize("page", pages_with("sh"), ids=page_name)
def test_shell_blocks_run(page, tmp_path, monkeypatch):
    """The commands run in this process, because each new process would import TensorFlow."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "sh"):
        for line in block.code.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "keras-vit"
            assert main(arguments) == 0, f"{page_name(page)}: {line}"


def test_the_example_trains_and_continues(tmp_path, monkeypatch, capsys, flowers):
    monkeypatch.chdir(tmp_path)
    arguments = "flowers --model vit_xs16 --image-size 32 --batch-size 8 --epochs 1 --run-dir runs/example"
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments.split()])
    for _ in range(2):
        runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")
        assert capsys.readouterr().out.splitlines()[-1] == "runs/example/best.keras"
