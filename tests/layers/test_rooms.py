"""What is in `keras_vit.layers`, and that nothing below a family's folder depends on the family."""

import ast
import functools
from pathlib import Path

import pytest

from keras_vit import layers

PACKAGE = Path(layers.__file__).parents[1]
ROOT = PACKAGE.parent
FAMILIES = sorted(folder for folder in (PACKAGE / "models").iterdir() if (folder / "__init__.py").exists())


@functools.cache
def imported(path):
    """The modules that a file imports from, with each name from `keras_vit.layers` as the module that defines it."""
    return frozenset(_imported(path))


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                if node.module == "keras_vit.layers":
                    yield getattr(layers, alias.name).__module__


def test_there_are_families():
    assert {"vit", "mobilevit"} <= {folder.name for folder in FAMILIES}


@pytest.mark.parametrize("room", ["graph", "layers", "inspection", "models"])
def test_a_familys_folder_can_be_deleted(room):
    files = sorted((PACKAGE / room).glob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            assert not name.startswith(tuple(f"keras_vit.models.{family.name}." for family in FAMILIES)), path
            assert name not in [f"keras_vit.models.{family.name}" for family in FAMILIES], path


def needed_by(module):
    """The folders of families that use a module of layers, and the files of other rooms that do."""
    families = {family.name for family in FAMILIES for path in family.glob("*.py") if module in imported(path)}
    rooms = [PACKAGE / room for room in ("layers", "graph", "weights", "inspection", "models")]
    rooms += [ROOT / "edge", ROOT / "training"]
    files = [path for room in rooms for path in room.glob("**/*.py" if room.parent == ROOT else "*.py")]
    others = {path for path in files if path.name != "__init__.py" and module in imported(path)}
    return families, others


@pytest.mark.parametrize("path", sorted((PACKAGE / "layers").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_layers_are_what_two_families_or_the_machinery_need(path):
    families, others = needed_by(f"keras_vit.layers.{path.stem}")
    assert len(families) >= 2 or others, f"only {families} use it: it belongs into that family's folder"
