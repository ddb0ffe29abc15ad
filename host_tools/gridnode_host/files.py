"""Writing files so that nobody sees half of one, keys so that nobody else sees them; what helps where it fails."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from gridnode_host.errors import Exit, GridnodeError

_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ = {
    errno.ENOENT: "Check its path: there is no such file.",
    errno.ENOTDIR: "Check its path: a part of it is a file and not a folder.",
    errno.EISDIR: "Name a file in that folder.",
    errno.EACCES: "Make it readable for you, or run this as who may read it.",
}
_WRITE = {
    errno.ENOENT: "Make the folder first, or name a file in another one.",
    errno.EISDIR: "Name a file in that folder.",
    **dict.fromkeys(_NO_FOLDER, "Name a file in a folder: a part of the path is a file."),
    **dict.fromkeys(_DENIED, "Name a file in a folder that you may write to."),
    **dict.fromkeys(_FULL, "Free some room."),
}


def unread(step: str, path: Path, err: OSError) -> GridnodeError:
    """The failure of a file that cannot be read, with the advice that fits its reason."""
    action = _READ.get(err.errno or 0, "Name a file that can be read.")
    return GridnodeError(step, f"{path} cannot be read: {err.strerror or err}", action, Exit.USAGE)


def unwritten(step: str, path: Path, err: OSError) -> GridnodeError:
    """The failure of a file that cannot be written, with the advice that fits its reason."""
    there = err.errno == errno.ENOENT and path.parent.is_dir()  # as /proc says it
    action = _WRITE.get(0 if there else err.errno or 0, "Name another place.")
    code = Exit.INTERNAL if err.errno in _FULL else Exit.USAGE
    return GridnodeError(step, f"{path} cannot be written: {err.strerror or err}", action, code)


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
