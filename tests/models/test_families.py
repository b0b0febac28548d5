"""A family is a folder: what a folder in keras_vit/models must contain, and that nothing else names the family."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import keras_vit
from docs import reference
from keras_vit.models.families import families
from keras_vit.weights.naming import Naming
from tests.models import cases
from tests.reference import FIXTURES

MODELS = Path(keras_vit.__file__).parent / "models"
FOLDERS = sorted(path.parent.name for path in MODELS.glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS)
class TestEveryFolder:
    def test_it_is_registered_and_its_functions_are_exported(self, folder):
        family = families()[folder]
        names = {*family.functions, *(known.function_name for known in family.variants)}
        assert family.variants and names <= set(keras_vit.__all__)
        for name in names:
            function = getattr(keras_vit, name)
            assert callable(function) and function.__name__ == name and len(function.__doc__) > 100
        for known in family.variants:
            assert known.name in keras_vit.list_models() and known.builder in family.functions
            assert known.license and known.paper and known.summary

    def test_its_published_names_are_found(self, folder):
        namings = importlib.import_module(f"keras_vit.models.{folder}.weights").NAMINGS
        assert namings and all(isinstance(naming, Naming) for naming in namings)

    def test_its_table_does_not_import_keras(self, folder):
        script = f"import sys, keras_vit.models.{folder}.variants; assert not {{'keras', 'numpy'}} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_the_suites_run_on_it(self, folder):
        """Each builder has a small form, and the family has a reference output."""
        forms = cases.forms_of(folder)
        builders = {known.builder for known in families()[folder].variants}
        assert builders == {builder for builder, _ in forms.FORMS.values()}
        own_tests = "".join(path.read_text() for path in Path(forms.__file__).parent.glob("test_*.py"))
        assert forms.REFERENCES or any(path.stem in own_tests for path in FIXTURES.glob("*.npz"))
        for case in forms.REFERENCES:
            assert case.model in keras_vit.list_models() and (FIXTURES / f"{case.fixture}.npz").is_file()

    def test_the_reference_documents_it(self, folder):
        page = reference._models_page()
        for name in families()[folder].functions:
            assert name in page
        for known in families()[folder].variants:
            assert f"`{known.name}`" in page

    def test_no_other_part_of_the_package_imports_it(self, folder):
        """Only the files of the family name its modules: its folder, and its writers of ONNX files."""
        root = MODELS.parent.parent
        for file in [*root.glob("keras_vit/**/*.py"), *root.glob("edge/**/*.py"), *root.glob("training/**/*.py")]:
            if file.parent == MODELS / folder or file == root / "edge" / "onnx" / "families" / f"{folder}.py":
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not any(module.startswith(f"keras_vit.models.{folder}.") for module in modules), file


def test_the_suites_have_no_forms_of_a_removed_family():
    assert cases.families() == FOLDERS == list(families())
