"""Run a tool in a folder with the layout of an installation, with edge/ and training/ inside keras_vit/.

    python -m tests.as_installed lint-imports --no-logo
    python -m tests.as_installed mypy

Tools that read source files without importing them, such as import-linter and mypy, cannot follow the `package_dir` of
setup.cfg. They run in a temporary folder of links, with a copy of pyproject.toml, and the paths in their output are
changed back to those of the repository.
"""

import configparser
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def package_folders(root: Path = ROOT) -> dict[str, str]:
    """Return the folders of setup.cfg's `package_dir`, by the name of the installed package."""
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg")
    lines = parser["options"]["package_dir"].strip().splitlines()
    return dict(re.split(r"\s*=\s*", line.strip(), maxsplit=1) for line in lines)


@contextlib.contextmanager
def installed_tree(root: Path = ROOT) -> Iterator[Path]:
    """Make a temporary folder with links to the packages of a repository, laid out as in an installation."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        shutil.copy(root / "pyproject.toml", tree)
        for package, folder in sorted(package_folders(root).items()):
            target = tree.joinpath(*package.split("."))
            if "." in package:
                target.symlink_to(root / folder)
            else:
                target.mkdir()
                for entry in (root / folder).iterdir():
                    (target / entry.name).symlink_to(entry)
        yield tree


def run_as_installed(command: list[str], root: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a tool of this environment in such a folder, and return its exit status and output.

    Args:
        command: Name of the tool, and its arguments.
        root: The repository.
    """
    program = Path(sys.executable).parent / command[0]
    with installed_tree(root) as tree:
        result = subprocess.run([program, *command[1:]], cwd=tree, capture_output=True, text=True)
    for package, folder in package_folders(root).items():
        path = package.replace(".", "/") + "/"
        result.stdout = re.sub(f"^{path}", f"{folder}/", result.stdout, flags=re.MULTILINE)
    return result


if __name__ == "__main__":
    result = run_as_installed(sys.argv[1:])
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    sys.exit(result.returncode)
