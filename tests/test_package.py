"""The installed package: its folders, imports and names."""

import configparser
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import keras_vit
from tests.models.cases import all_forms, build
from tests.stubs import STUB, stub

ROOT = Path(__file__).parent.parent


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_lists_every_folder_of_code():
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


def test_edge_and_training_are_imported_only_from_keras_vit():
    for file in [*ROOT.glob("edge/*.py"), *ROOT.glob("training/*.py"), *ROOT.glob("keras_vit/**/*.py")]:
        for line in file.read_text().splitlines():
            assert not line.strip().startswith(("from edge", "import edge", "from training", "import training")), file


def test_the_core_uses_neither_training_nor_edge():
    for file in (ROOT / "keras_vit").rglob("*.py"):
        if file.parent.name in ("cli", "demo"):  # The command line and the demo use all three packages.
            continue
        text = file.read_text()
        assert "keras_vit.edge import" not in text and "keras_vit.training import" not in text, file
        assert "import tensorflow" not in text, file


@pytest.mark.parametrize("package", ["keras_vit", "keras_vit.edge", "keras_vit.training"])
def test_no_public_function_has_the_name_of_a_module_beside_it(package):
    names = set(importlib.import_module(package).__all__) - {"layers"}
    assert [name for name in names if importlib.util.find_spec(f"{package}.{name}") is not None] == []


def test_the_stub_is_up_to_date():
    assert STUB.read_text() == stub(), "run `make stubs`"


def test_every_public_name_exists_and_importing_keras_vit_does_not_import_keras():
    script = (
        "import sys, keras_vit; from keras_vit import *; names = dir();"
        "assert all(name in names for name in keras_vit.__all__), set(keras_vit.__all__) - set(names);"
        "assert set(keras_vit.__all__) <= set(dir(keras_vit))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    script = "import sys, keras_vit; keras_vit.list_models(); keras_vit.list_weights('vit_b16'); dir(keras_vit);"
    script += "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "first",
    [
        "import keras, keras_vit",
        "import keras_vit; keras_vit.ViT",
        "from keras_vit.layers import MatMul",
        "import keras_vit.models.vit.vit",
    ],
)
def test_a_first_import_works_and_keras_finds_the_classes_of_a_saved_model(first, tmp_path):
    """The order of the imports does not matter, and nothing of keras_vit has to be used before."""
    model = build(next(iter(all_forms())))
    model.save(tmp_path / "model.keras")
    script = f"""
{first}
import keras
keras.models.load_model('model.keras')
registered = {{name.partition(">")[2] for name in keras.saving.get_custom_objects()}}
assert {{"MatMul", "Unfold"}} <= registered, registered
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'ViT_X9'"):
        keras_vit.ViT_X9  # noqa: B018
