"""Writing a file so that one which was there before is never left half overwritten."""

import os
import tempfile


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes beside the target and moves into place; folders on the way are made."""
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
