"""What the README shows, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def block_with(text):
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README, re.S | re.M)
    return next(block for block in blocks if text in block)


@pytest.mark.slow
def test_the_whole_way_in_python(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", block_with("edge.verify(")], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "1 partition" in result.stdout and "No findings." in result.stdout
    top1 = re.search(r"top-1 of the file\s+([\d.]+)%", result.stdout)
    assert float(top1.group(1)) > 90


@pytest.mark.slow
def test_the_shell_commands(tmp_path):
    scripts = Path(sys.executable).parent
    for line in block_with("keras-vit list").strip().splitlines():
        command = line.replace('"', "").split()
        result = subprocess.run([scripts / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, line + result.stderr[-3000:]
