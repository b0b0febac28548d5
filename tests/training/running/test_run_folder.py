import resource
import signal
import subprocess
import sys

import pytest

from keras_vit.training.running.run_folder import run_folder
from keras_vit.utils.files import replacing


def test_only_one_process_can_lock_a_folder(tmp_path):
    folder = tmp_path / "run"
    program = f"""
from pathlib import Path
from keras_vit.training.running.run_folder import run_folder
with run_folder(Path({str(folder)!r}), Path({str(folder / "checkpoint")!r}), resume=False):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        for resume in (False, True):
            (folder / "checkpoint").touch() if resume else None
            with (
                pytest.raises(RuntimeError, match="Another process is training in"),
                run_folder(folder, folder / "checkpoint", resume=resume),
            ):
                pass
        # The lock is released even if the process is killed.
        other.send_signal(signal.SIGKILL)
    with run_folder(folder, folder / "checkpoint", resume=True):
        pass


def test_a_full_disk_keeps_the_previous_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    # Like a full disk, a limit on the file size makes a write fail midway.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"), replacing(path) as partial:
            partial.write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
