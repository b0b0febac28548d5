"""The project around the code: version, contents of the wheel, import rules and type hints."""

import ast
import configparser
import inspect
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

import keras_vit
from keras_vit import edge, training
from tests.as_installed import ROOT, package_folders, run_as_installed


def copy_of_the_project(folder):
    """Copy the files that a build needs."""
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in set(package_folders().values()):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_contents_of_a_wheel(tmp_path):
    folder = copy_of_the_project(tmp_path)
    build = "import setuptools.build_meta as build; print(build.build_wheel('.'))"
    result = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    wheel = result.stdout.splitlines()[-1]
    assert wheel == f"keras_vit-{keras_vit.__version__}-py3-none-any.whl"
    held = set(zipfile.ZipFile(folder / wheel).namelist())
    expected = {"keras_vit/py.typed"}
    for package, name in package_folders().items():
        for file in (ROOT / name).rglob("*.py*"):
            if file.suffix in (".py", ".pyi"):
                expected.add(f"{package.replace('.', '/')}/{file.relative_to(ROOT / name)}")
    assert not expected - held


def test_the_version_is_written_only_once():
    """setuptools reads it from the source, without importing the package or Keras."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser["metadata"]["version"] == "attr: keras_vit.__version__"
    tree = ast.parse((ROOT / "keras_vit" / "__init__.py").read_text())
    values = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["__version__"]
    ]
    assert values == [keras_vit.__version__]


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("keras_vit/layers/scale.py", "from keras_vit import edge", "use neither training nor edge"),
        ("keras_vit/graph/fusion.py", "import keras_vit.training.data", "use neither training nor edge"),
        ("training/__init__.py", "from keras_vit.edge import export", "do not use each other"),
        ("edge/__init__.py", "def later():\n    from keras_vit import training", "do not use each other"),
        ("training/__init__.py", "from keras_vit.cli import main", "Nothing but the command line"),
        ("keras_vit/layers/scale.py", "from keras_vit.models import registry", "Layers use only utils"),
        ("keras_vit/graph/fusion.py", "from keras_vit.models.vit import vit", "graph and inspection know no family"),
        (
            "keras_vit/models/builder.py",
            "from keras_vit.models.vit.vit import ViT",
            "files of models know no family",
        ),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path, file, line, contract):
    folder = copy_of_the_project(tmp_path)
    with open(folder / file, "a") as module:
        module.write(f"\n{line}\n")
    result = run_as_installed(["lint-imports", "--no-logo"], folder)
    broken = " ".join(found for found in result.stdout.split("Broken contracts")[0].splitlines())
    assert result.returncode == 1 and re.search(f"{contract}.*?BROKEN", broken), result.stdout


def public_functions():
    """Return the public functions of the three packages, and the methods of public classes that users call, by name.

    Methods that override one of a base class, such as those of callbacks, are left out, because Keras calls them.
    """
    found = {}
    for package in (keras_vit, edge, training):
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isfunction(thing):
                found[f"{package.__name__}.{name}"] = thing
            elif inspect.isclass(thing):
                for method, function in vars(thing).items():
                    overrides = any(hasattr(base, method) for base in thing.__mro__[1:])
                    if inspect.isfunction(function) and (
                        method == "__init__" or not (method.startswith("_") or overrides)
                    ):
                        found[f"{package.__name__}.{name}.{method}"] = function
    return found


def test_public_functions_have_complete_type_hints():
    incomplete = {}
    for name, function in public_functions().items():
        signature = inspect.signature(function)
        lacking = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty
            and parameter.name != "self"
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if signature.return_annotation is signature.empty and not name.endswith(".__init__"):
            lacking.append("return")
        if lacking:
            incomplete[name] = lacking
    assert not incomplete


PROGRAM = """
import keras_vit
from keras_vit import edge, training

model = keras_vit.ViT_B16(classes=10)
top1: float | None = edge.verify(model, "model.tflite", None).top1
keras_vit.MobileViTV2(0.5)  # wrong
keras_vit.ViT_B17()  # wrong
training.strategy("auto", timeout="long")  # wrong
edge.benchmark(5)  # wrong
"""


def test_a_type_checker_finds_the_mistakes_in_a_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    options = ["--config-file", "", "--ignore-missing-imports", "--follow-imports", "silent"]
    result = run_as_installed(["mypy", *options, str(program), str(ROOT / "examples" / "train.py")])
    found = [int(line.split(":")[1]) for line in result.stdout.splitlines() if ": error:" in line]
    assert found == [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")], result


def test_the_workflow_runs_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([\w./-]+|\$\(VENV\)/\.installed):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {command.split()[1].replace(".venv/", "$(VENV)/") for command in commands if command.startswith("make ")}
    assert {"lint", "test", "docs"} <= used <= targets


def test_the_citation_has_the_license_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert citation["license"] == parser["metadata"]["license"]
