"""The package as it is installed."""

import configparser
from pathlib import Path

import pytest

import keras_vit

ROOT = Path(__file__).parent.parent


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_names_every_folder_of_code():
    listed = set(setup()["options"]["packages"].split())
    folders = {
        "keras_vit": ROOT / "keras_vit",
        "keras_vit.edge": ROOT / "edge",
        "keras_vit.training": ROOT / "training",
    }
    found = set()
    for package, folder in folders.items():
        for file in folder.rglob("__init__.py"):
            found.add(".".join((package, *file.parent.relative_to(folder).parts)))
    assert listed == found


def test_edge_and_training_are_reached_as_parts_of_keras_vit_only():
    for file in [*ROOT.glob("edge/*.py"), *ROOT.glob("training/*.py"), *ROOT.glob("keras_vit/**/*.py")]:
        for line in file.read_text().splitlines():
            assert not line.strip().startswith(("from edge", "import edge", "from training", "import training")), file


def test_the_core_uses_neither_training_nor_edge():
    for file in (ROOT / "keras_vit").rglob("*.py"):
        if file.parent.name in ("cli", "demo"):  # They stand on top of all three.
            continue
        text = file.read_text()
        assert "keras_vit.edge import" not in text and "keras_vit.training import" not in text, file
        assert "import tensorflow" not in text, file


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'ViT_X9'"):
        keras_vit.ViT_X9  # noqa: B018
