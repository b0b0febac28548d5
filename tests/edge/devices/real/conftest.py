"""A real OpenSSH server on a loopback port, and files of mobile models.

The server has keys of its own; nothing in /etc/ssh or ~/.ssh is used or changed. It runs as the user who runs the
tests, so it needs no rights; for root, it needs the folder that Debian's service would make.
"""

from __future__ import annotations

import functools
import getpass
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.edge.devices.real.mobile import Exported

# The home of a login is the folder, so that no start-up file of the user's shell changes the PATH.
SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
SetEnv HOME={folder} TMPDIR={folder}/tmp BOARD={folder} PYTHONPATH={folder}/site PATH={folder}/bin:/usr/bin:/bin
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
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(self.folder / "sshd_config")])
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the SSH server did not start"
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(timeout=10)

    @property
    def connections(self) -> list[int]:
        """The server's processes that each have a connection: the children of the one that listens."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # It has ended.
            if int(fields[1]) == self.process.pid:
                found.append(int(process.name))
        return found

    @property
    def name(self) -> str:
        return f"ssh://board?config={self.folder / 'ssh_config'}"

    def knows(self, key: str) -> None:
        """Let the client know a host key as the server's."""
        words = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")

    @property
    def left(self) -> list[str]:
        """What is left: temporary files of the board, processes of logins and connections there, and clients here."""
        found = [str(path) for path in (self.folder / "tmp").iterdir()]
        found += [f"connection {process}" for process in self.connections]
        login, client = f"BOARD={self.folder}\0".encode(), str(self.folder / "ssh_config").encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if login in (process / "environ").read_bytes() or client in command:
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue  # It has ended, or is another user's.
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


@pytest.fixture
def board(server):
    """A board whose python3 is this one, with its packages."""
    python = server.folder / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return server


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A function from the name of a mobile model to its files, which are made once."""
    return functools.cache(lambda name: Exported(name, tmp_path_factory.mktemp(name)))
