"""Lock the folder of a run, so that only one process trains in it, and write the description of the run."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs
from keras_vit.utils.plain import plain

_LOCK = "run.lock"


@contextlib.contextmanager
def run_folder(folder: Path, checkpoint: Path, resume: bool) -> Iterator[None]:
    """Create the folder of a run if necessary, and lock it for this process.

    The operating system releases the lock when the process ends, even if it is killed.

    Args:
        folder: The folder of the run.
        checkpoint: The file that must exist to resume the run.
        resume: Whether to resume a run rather than start a new one.

    Raises:
        FileNotFoundError: If there is no checkpoint to resume from.
        FileExistsError: If the folder is not empty and `resume` is False.
        RuntimeError: If another process is training in the folder.
        OSError: If the folder can't be written.
    """
    with needs("filelock", "the lock of a run's folder", "train"):
        import filelock
    if resume and not checkpoint.is_file():
        raise FileNotFoundError(f"{folder} has no {checkpoint.name} to resume from.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(entry.name for entry in folder.iterdir())
        lock = filelock.FileLock(folder / _LOCK)
        if not held or resume or held == [_LOCK]:
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RuntimeError(
            f"Another process is training in {folder}; wait until it ends, or choose another run_dir."
        ) from error
    except OSError as error:
        raise OSError(f"{folder} can't be used as run_dir ({error.strerror}); choose another one.") from error
    if not lock.is_locked:
        raise FileExistsError(f"{folder} is not empty; pass resume=True to continue its run, or choose another folder.")
    try:
        yield
    finally:
        lock.release()


def write_description(path: Path, settings: dict, notes: dict) -> None:
    """Write run.json: the settings of the run, the versions of the software, the git commit, and further notes."""
    content = {"settings": settings, "versions": _versions(), "git_commit": _git_commit(), **notes}
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, default=plain) + "\n")


def _versions():
    versions = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "keras-vit")}
    return {"python": platform.python_version(), **versions}


def _git_commit():
    """Return the commit of the current git repository, with "+" if it has changes, or None outside a repository."""
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")
