"""What the directory of an LMDB store is refused for, in words that name the way out."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from zoocache.errors import StorageError

_WAYS_OUT = {
    errno.EACCES: "this user may not write there; choose another directory, or change its owner or mode",
    errno.EPERM: "this user may not write there; choose another directory, or change its owner or mode",
    errno.EROFS: "the file system is read-only; choose another directory",
    errno.EEXIST: "it is a file; name a directory, which is made if need be",
    errno.ENOTDIR: "it, or something above it, is a file; name a directory, which is made if need be",
    errno.ELOOP: "it is a symbolic link; name the directory itself",
    errno.ENOSPC: "the disk is full; free some room, or choose another directory",
    errno.EDQUOT: "the disk quota is used up; free some room, or choose another directory",
    errno.EFBIG: "files may not become so large there; choose a smaller map or another directory",
    errno.ENOMEM: "there are not enough addresses for a map of that size; choose a smaller one",
}


_SCARCE_BYTES = 1 << 20


def number_of(error: Exception) -> int:
    """The system's number of an error, whether the system or LMDB has raised it; 0 for none."""
    return getattr(error, "errno", None) or getattr(error, "code", None) or 0


def is_about_room(code: int, path: str) -> bool:
    """Whether an error of this number, at this path, says that the disk is full.

    LMDB says EIO where only the first part of a write found room, so that one is asked about.
    """
    return code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} or (code == errno.EIO and _is_room_scarce(path))


def _is_room_scarce(path: str) -> bool:
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _SCARCE_BYTES


def trouble(path: str, error: OSError) -> StorageError:
    """What to tell a user whose storage directory cannot be used."""
    code = error.errno or 0
    if code == errno.EIO and is_about_room(code, path):
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    way_out = _WAYS_OUT.get(error.errno or 0, "choose another directory")
    return StorageError(f"lmdb storage {path}: {error.strerror or error}: {way_out}")


def refuse_others(path: str, found: os.stat_result) -> None:
    """Raise unless a file or directory is this user's; a file also unless it is a plain one that only he may write."""
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"lmdb storage {path}: it belongs to uid {found.st_uid}, this process is {os.geteuid()}; a cache is its "
            "user's own. Choose another directory, or change the owner"
        )
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise StorageError(
            f"lmdb storage {path}: it is no plain file with one name; remove it, or choose another place"
        )
    if found.st_mode & 0o022:
        raise StorageError(f"lmdb storage {path}: others may write to it (mode {found.st_mode & 0o777:o}): chmod go-w")


def prepare(directory: str) -> None:
    """Make the directory, for this user alone, if need be.

    Raises:
        StorageError: it cannot be made, is no directory, or is another user's.
    """
    try:
        with contextlib.suppress(FileExistsError):  # apart, for makedirs gives its mode to the last one only
            os.makedirs(os.path.dirname(directory), mode=0o700)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.stat(directory)
    except FileExistsError as error:
        if os.path.lexists(directory):
            raise trouble(directory, error) from error
        gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # it was removed while it was looked at
        raise trouble(directory, gone) from gone
    except OSError as error:
        raise trouble(directory, error) from error
    refuse_others(directory, found)
