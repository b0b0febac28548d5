"""The folder of a run: only one training writes to it, and a file describes the training."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs

_LOCK = "run.lock"


@contextlib.contextmanager
def run_folder(folder: Path, checkpoint: Path, resume: bool) -> Iterator[None]:
    """Hold a run's folder for this process.

    The lock belongs to the operating system, so it is released when the process ends, however that happens.

    Args:
        folder: The folder; it is created if it does not exist.
        checkpoint: The file that a run needs to be resumed.
        resume: Whether a run is resumed or a new one started.

    Raises:
        FileNotFoundError: There is nothing to resume.
        FileExistsError: The folder is not empty and `resume` is off.
        RuntimeError: Another process is training in the folder.
        OSError: The folder can't be written.
    """
    with needs("filelock", "the lock of a run's folder", "train"):
        import filelock
    if resume and not checkpoint.is_file():
        raise FileNotFoundError(f"{folder} holds no {checkpoint.name} to resume from.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(entry.name for entry in folder.iterdir())
        lock = filelock.FileLock(folder / _LOCK)
        if not held or resume or held == [_LOCK]:
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RuntimeError(f"Another process is training in {folder}; let it end, or name another run_dir.") from error
    except OSError as error:
        raise OSError(f"{folder} can't hold a run ({error.strerror}); name another run_dir.") from error
    if not lock.is_locked:
        raise FileExistsError(f"{folder} is not empty; pass resume=True to continue the run in it, or name another.")
    try:
        yield
    finally:
        lock.release()


def write_description(path: Path, settings: dict, notes: dict) -> None:
    """Write run.json: the settings that decide the training, the versions it began with, and further notes."""
    content = {"settings": settings, "versions": _versions(), "git_commit": _git_commit(), **notes}
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def _versions():
    versions = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "keras-vit")}
    return {"python": platform.python_version(), **versions}


def _git_commit():
    """Return the commit of the current repository, with "+" if files were changed, or None without one."""
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")
