"""Stand-ins for boards: an `ssh` program that runs the remote command on this machine, as an SSH server would.

A board has its own folder for temporary files and its own `python3`, so a test can see what is left behind and can take
away or replace what the board has installed.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from pathlib import Path

# It relays standard input and output as a connection does, so that cutting it ends the input of the remote command.
# What it prints when it fails is what OpenSSH 9.2 printed.
_SSH = r"""#!{python} -S
import os, subprocess, sys, threading, time
board = {board!r}
with open(board + "/arguments", "a") as log:
    log.write("\n".join(sys.argv[1:]) + "\0")
if os.path.exists(board + "/refusal"):
    sys.stderr.write(open(board + "/refusal").read())
    sys.exit(255)
if os.path.exists(board + "/silence"):
    time.sleep(1000)
environment = {{"PATH": board + "/bin:/usr/bin:/bin", "TMPDIR": board + "/tmp", "HOME": board, "BOARD": board}}
if os.path.exists(board + "/no_python"):
    environment["PATH"] = board + "/empty"
os.makedirs(board + "/tmp", exist_ok=True)
print("Welcome to Board OS 1.0 (GNU/Linux)\n * Documentation: see the manual", flush=True)
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
remote = subprocess.Popen(["/bin/sh", "-c", sys.argv[-1]], env=environment, **pipes)
def forward():
    while data := os.read(0, 1 << 16):
        try:
            remote.stdin.write(data)
            remote.stdin.flush()
        except OSError:
            break
    try:
        remote.stdin.close()
    except OSError:
        pass
def cut():
    while not os.path.exists(board + "/cut"):
        time.sleep(0.02)
    # The server closes the pipes of the remote command, but does not end it.
    os.close(remote.stdin.fileno())
    os.close(remote.stdout.fileno())
    sys.stderr.write("client_loop: send disconnect: Broken pipe\n")
    sys.stderr.flush()
    os._exit(255)
threading.Thread(target=forward, daemon=True).start()
threading.Thread(target=cut, daemon=True).start()
while data := os.read(remote.stdout.fileno(), 1 << 16):
    os.write(1, data)
code = remote.wait()
os._exit(255 if code < 0 else code)
"""

# A runtime whose behavior the test chooses. The file computes 2 x + 1.
_RUNTIME = """
import os, signal, time
import numpy as np

class Interpreter:
    def __init__(self, model_path, num_threads):
        self.opened = open(model_path, "rb").read()
    def allocate_tensors(self):
        {allocate}
    def get_signature_list(self):
        return {{}}
    def get_input_details(self):
        return [{{"index": 0, "name": "x", "shape": [1, 4], "dtype": np.float32, "quantization": (0.0, 0)}}]
    get_output_details = get_input_details
    def set_tensor(self, index, values):
        self.values = values
    def invoke(self):
        {invoke}
    def get_tensor(self, index):
        return 2 * self.values + 1
"""


class Board:
    """A stand-in for a board with Python and LiteRT, reached as "ssh://pi@board".

    Args:
        folder: An empty folder for everything that belongs to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.programs = folder / "programs"
        self.site = folder / "site"
        for path in (self.programs, folder / "bin", folder / "tmp", folder / "empty", self.site):
            path.mkdir(parents=True)
        self.has_program("ssh", _SSH.format(python=sys.executable, board=str(folder)))
        # Its Python is this one, but what is in `site` comes first.
        python = folder / "bin" / "python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{self.site}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)

    def has_program(self, name: str, content: str) -> None:
        """Put a program on the path of this machine."""
        path = self.programs / name
        path.write_text(content)
        path.chmod(0o755)

    def installs(self, module: str, version: str, invoke: str = "pass", allocate: str = "pass") -> None:
        """Give the board a runtime in place of LiteRT, with Python code for what it does when it runs a file."""
        package = self.site / module
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "interpreter.py").write_text(_RUNTIME.format(invoke=invoke, allocate=allocate))
        info = self.site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: {version}\n")

    def starts_python_with(self, code: str) -> None:
        """Let each Python of the board execute code first, such as `sys.modules["numpy"] = None`."""
        (self.site / "sitecustomize.py").write_text("import sys\n" + textwrap.dedent(code))

    def lacks(self, *modules: str) -> None:
        """Hide modules from the board's Python."""
        self.starts_python_with("".join(f"sys.modules[{module!r}] = None\n" for module in modules))

    def refuses(self, printed: str) -> None:
        """Let `ssh` print something and fail, before anything has run on the board."""
        (self.folder / "refusal").write_text(printed)

    def has(self, name: str) -> None:
        """Set a switch of the stand-in: "silence", "no_python" or "cut"."""
        (self.folder / name).touch()

    @property
    def arguments(self) -> list[list[str]]:
        """The arguments of each call of `ssh`."""
        return [call.split("\n") for call in (self.folder / "arguments").read_text().split("\0")[:-1]]

    @property
    def left_files(self) -> list[Path]:
        """What lies in the board's folder for temporary files."""
        return sorted((self.folder / "tmp").iterdir())

    @property
    def left_processes(self) -> list[str]:
        """The command lines of the processes that run on the board."""
        mark, found = f"BOARD={self.folder}\0".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes() and (process / "stat").read_text().split()[2] != "Z":
                    found.append((process / "cmdline").read_text().replace("\0", " ")[:100])
            except OSError:
                continue  # It has ended.
        return found

    def is_clean(self, within_s: float = 5.0) -> bool:
        """Return whether nothing is left on the board, as soon as that is so."""
        deadline = time.monotonic() + within_s
        while self.left_files or self.left_processes:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def own_path(board: Board) -> str:
    """Return a PATH on which the stand-in is the only `ssh`."""
    return f"{board.programs}{os.pathsep}{os.environ['PATH']}"
