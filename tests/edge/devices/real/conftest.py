"""A real OpenSSH server on a loopback port, with keys of its own. Nothing in /etc/ssh or ~/.ssh is used or changed."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
SetEnv TMPDIR={folder}/tmp BOARD={folder} PYTHONPATH={folder}/site PATH={folder}/bin:/usr/bin:/bin
"""
CLIENT = """Host board
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
"""


class Server:
    """An SSH server whose logins have folders for programs, modules and temporary files of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.chmod(0o700)
        for name in ("tmp", "bin", "site"):
            (folder / name).mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for key in ("host", "user", "stranger", "other_host"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(command, check=True)
        (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
        (folder / "authorized_keys").chmod(0o600)
        self.knows("host")
        names = {"port": self.port, "folder": folder, "user": getpass.getuser()}
        (folder / "sshd_config").write_text(SERVER.format(**names))
        (folder / "ssh_config").write_text(CLIENT.format(**names))
        Path("/run/sshd").mkdir(exist_ok=True)
        subprocess.run(["/usr/sbin/sshd", "-f", str(folder / "sshd_config")], check=True)
        deadline = time.monotonic() + 10
        while not (folder / "sshd.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    @property
    def name(self) -> str:
        return f"ssh://board?config={self.folder / 'ssh_config'}"

    def knows(self, key: str) -> None:
        """Let the client know a host key as the server's."""
        words = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")

    def stop(self) -> None:
        os.kill(int((self.folder / "sshd.pid").read_text()), signal.SIGTERM)

    @property
    def left(self) -> list[str]:
        """What is left on the board: temporary files, and processes of logins."""
        found = [str(path) for path in (self.folder / "tmp").iterdir()]
        mark = f"BOARD={self.folder}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
            except OSError:
                continue  # It has ended.
        return found

    def is_clean(self) -> bool:
        """Return whether nothing is left, after some time for what is ending."""
        deadline = time.monotonic() + 10
        while self.left and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.left


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    try:
        assert server.is_clean(), server.left
    finally:
        server.stop()
