"""Writing files so that nobody sees half of one, and keys so that nobody else sees them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``content`` to ``path`` in one step; the file never exists with a wider mode."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")  # made with mode 600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def private_folder(path: Path) -> Path:
    """Make a folder (and its parents) that only its owner can read, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
