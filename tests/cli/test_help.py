"""Help texts and typing errors: answered at once, and without importing Keras."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import keras_vit.cli
from keras_vit.cli.main import main

SCRIPT = Path(sys.executable).parent / "keras-vit"
COMMANDS = sorted(
    path.stem
    for path in Path(keras_vit.cli.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "main", "common")
)


def run(*arguments):
    """Run the installed script; return the process, its CPU time in seconds, and the modules that it imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, *arguments], capture_output=True, text=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    imported = set(re.findall(r"^import time: .*\| +(\S+)$", process.stderr, re.M))
    return process, seconds, imported


def test_the_check_for_imports_sees_one():
    process = subprocess.run([sys.executable, "-X", "importtime", "-c", "import numpy"], capture_output=True, text=True)
    assert "numpy" in re.findall(r"^import time: .*\| +(\S+)$", process.stderr, re.M)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["nonsense"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_and_typing_errors_import_nothing_heavy(arguments):
    process, seconds, imported = run(*arguments)
    assert process.returncode == (2 if arguments == ["nonsense"] else 0), process.stderr
    assert "argparse" in imported
    assert not imported & {"keras", "tensorflow", "numpy", "jax", "torch", "matplotlib", "PIL"}
    assert seconds < 0.5


@pytest.mark.parametrize("arguments", [["list", "vit_b*"], ["weights", "vit_b16"]], ids=" ".join)
def test_the_registry_is_read_without_keras(arguments):
    process, _, imported = run(*arguments)
    assert process.returncode == 0 and process.stdout
    assert not imported & {"keras", "tensorflow"}


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert sorted(re.findall(r"^  (\w+) +[A-Z].*\.$", capsys.readouterr().out, re.M)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--verbose" in shown and "--debug" in shown


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("exprot", "Did you mean 'export'?"),
        ("bench", "Did you mean 'benchmark'?"),
        ("xyz", "`keras-vit --help` lists the commands."),
    ],
)
def test_a_mistyped_command_gets_the_nearest(command, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "model.keras"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"keras-vit: error: there is no command {command!r}. {hint}\n")
