"""A phone for the real `adb` client: the other end of adb's protocol, on a loopback port.

It serves what a phone's adbd serves to `adb connect`, `get-state`, `shell` and `push`. A command runs on this machine,
in a shell, as a phone's shell would run it. Sources: protocol.txt, SYNC.TXT and shell_protocol.h of Android's adb.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

_BANNER = b"device::ro.product.model=Played;features=shell_v2"
_VERSION, _MOST = 0x01000001, 1 << 18
_STDOUT, _STDERR, _EXIT = 1, 2, 3


class Phone:
    """A phone in the network.

    Args:
        folder: An empty folder. `files` in it is the phone's storage, and `bin` has its programs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("files", "bin"):
            (folder / name).mkdir(parents=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.connections: list[socket.socket] = []
        self.commands: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def has_program(self, path: Path, script: str) -> None:
        """Give the phone a program."""
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def cut(self) -> None:
        """Cut all connections."""
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Leave the network."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # It is closed.
            self.connections.append(connection)
            threading.Thread(target=_Connection(self, connection).serve, daemon=True).start()

    def run(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the phone's shell."""
        self.commands.append(command)
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env={"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"},
            cwd=self.folder / "files",
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )


class _Connection:
    """A connection, with streams by the number that the client gave them. A stream's number here is the same."""

    def __init__(self, phone: Phone, connection: socket.socket):
        self._phone, self._socket = phone, connection
        self._lock = threading.Lock()
        self._syncs: dict[int, _Sync] = {}
        self._taken: dict[int, threading.Semaphore] = {}

    def serve(self) -> None:
        try:
            while True:
                command, first, _, size, _, _ = struct.unpack("<4s5I", self._read(24))
                self._answer(command, first, self._read(size))
        except OSError:
            return  # The connection is gone.

    def _answer(self, command: bytes, stream: int, data: bytes) -> None:
        if command == b"CNXN":
            self._send(b"CNXN", _VERSION, _MOST, _BANNER)
        elif command == b"OPEN":
            self._taken[stream] = threading.Semaphore(0)
            self._send(b"OKAY", stream, stream)
            service = data.rstrip(b"\0").decode()
            if service == "sync:":
                self._syncs[stream] = _Sync()
            else:
                threading.Thread(target=self._shell, args=(stream, service.partition(":")[2]), daemon=True).start()
        elif command == b"OKAY":
            self._taken[stream].release()
        elif command == b"WRTE":
            self._send(b"OKAY", stream, stream)
            answer = self._syncs[stream].take(data) if stream in self._syncs else b""
            if answer:
                self._send(b"WRTE", stream, stream, answer)
            if stream in self._syncs and self._syncs[stream].over:
                self._send(b"CLSE", stream, stream)

    def _shell(self, stream: int, command: str) -> None:
        done = self._phone.run(command)
        packets = [(_STDOUT, done.stdout), (_STDERR, done.stderr), (_EXIT, bytes([done.returncode % 256]))]
        try:
            for kind, content in packets:
                if content:
                    self._send(b"WRTE", stream, stream, struct.pack("<BI", kind, len(content)) + content)
                    self._taken[stream].acquire(timeout=10)
            self._send(b"CLSE", stream, stream)
        except OSError:
            return

    def _send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        header = struct.pack("<4s5I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, magic)
        with self._lock:
            self._socket.sendall(header + data)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data


class _Sync:
    """The transfer of files in a stream. `over` says whether the client wants no more."""

    over = False

    def __init__(self) -> None:
        self._data, self._target, self._content = b"", "", b""

    def take(self, data: bytes) -> bytes:
        """Take what the client sent, and return what it gets for it."""
        self._data += data
        answer = b""
        while len(self._data) >= 8:
            command, size = struct.unpack("<4sI", self._data[:8])
            # The number after DONE is a time, not a size.
            size = 0 if command == b"DONE" else size
            if len(self._data) < 8 + size:
                break
            content, self._data = self._data[8 : 8 + size], self._data[8 + size :]
            answer += self._answer(command, content)
        return answer

    def _answer(self, command: bytes, content: bytes) -> bytes:
        if command == b"STAT":
            try:
                found = os.stat(content)
            except OSError:
                return struct.pack("<4s3I", b"STAT", 0, 0, 0)
            return struct.pack("<4s3I", b"STAT", found.st_mode, found.st_size, int(found.st_mtime))
        if command == b"QUIT":
            self.over = True
        elif command == b"SEND":
            self._target, self._content = content.decode().rpartition(",")[0], b""
        elif command == b"DATA":
            self._content += content
        elif command == b"DONE":
            try:
                Path(self._target).write_bytes(self._content)
            except OSError as error:
                reason = (error.strerror or "").encode()
                return struct.pack("<4sI", b"FAIL", len(reason)) + reason
            os.chmod(self._target, stat.S_IRUSR | stat.S_IWUSR)
            return struct.pack("<4sI", b"OKAY", 0)
        return b""
