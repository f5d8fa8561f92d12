"""What the objects of a host are called, and who may own them.

One segment for each (uid, prefix, layout version, C library), and for each host_id where several hosts share one
`/dev/shm`. The C library is in the name because glibc and musl lay a semaphore out differently; the semaphores have
names of their own because musl keeps both kinds under one name.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys

from zoocache.digests import blake2b
from zoocache.errors import SegmentRefused
from zoocache.shm.layout import LAYOUT

SHM_DIR = "/dev/shm"
_WAYS_OUT = {
    errno.EROFS: f"mount {SHM_DIR} so that it may be written to, or start the container without a read-only one",
    errno.ENOSPC: f"{SHM_DIR} holds as many files as it may; remove some, or mount it with a larger nr_inodes",
    errno.EMFILE: "this process has as many descriptors as it may; close some, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has as many descriptors as it may; close some, or raise fs.file-max",
}
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def slug(prefix: str, host_id: str = "") -> str:
    """A prefix as a part of a file's name: readable, and never the same for two prefixes, nor for two host_ids."""
    whole = f"{prefix}\0{host_id}" if host_id else prefix
    digest = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    host = f"@{_ODD.sub('_', host_id)[:40]}" if host_id else ""
    return f"{_ODD.sub('_', prefix)[:40] or 'default'}{host}-{digest}"


def segment_name(prefix: str, layout: int = LAYOUT, host_id: str = "") -> str:
    """The name of a segment, as shm_open takes it.

    Args:
        prefix: of the configuration; "" for none.
        layout: of the segment.
        host_id: tells the hosts apart that share one `/dev/shm`, where some do; "" for the host itself.
    """
    libc = "musl" if "musl" in getattr(sys.implementation, "_multiarch", "") else "libc"
    return f"/zoocache-{os.geteuid()}-{slug(prefix, host_id)}-{layout}-{libc}"


def name_of_all(name: str) -> str:
    """What the names of a segment and of all its neighbours (other layouts, other C libraries) begin with."""
    return name.rsplit("-", 2)[0]


def gate_name(segment: str) -> str:
    """The name of a segment's semaphore, as sem_open takes it."""
    return segment + "-gate"


def wake_name(segment: str) -> str:
    """The name of the semaphore that wakes a segment's listener, as sem_open takes it."""
    return segment + "-wake"


def segment_file(name: str) -> str:
    """Where Linux shows the object of that name."""
    return SHM_DIR + name


def semaphore_file(name: str) -> str:
    """Where glibc shows the semaphore of that name."""
    return f"{SHM_DIR}/sem.{name[1:]}"


def refuse_foreign(info: os.stat_result, file: str, links: int = 1) -> None:
    """Turn away what is not ours, whoever put it under our name.

    Args:
        info: of the object.
        file: where Linux shows it.
        links: how many names it may have.

    Raises:
        SegmentRefused: another owner, open to group or others, or not a regular file.
    """
    if info.st_uid != os.geteuid():
        fault = f"belongs to uid {info.st_uid}, not to uid {os.geteuid()}"
    elif not stat.S_ISREG(info.st_mode):
        fault = "is not a regular object"
    elif info.st_mode & 0o077:
        fault = f"is open to others (mode {stat.S_IMODE(info.st_mode):04o}, not 0600)"
    elif info.st_nlink > links:
        fault = "has a second name (hard link)"
    else:
        return
    raise refusal(file, fault)


def refusal(file: str, fault: str) -> SegmentRefused:
    """What is raised for an object that is not ours."""
    return SegmentRefused(errno.EACCES, f"{file} {fault}, so it is not used; remove it or configure another prefix")


def way_out(error: OSError) -> str:
    """What to append to what the system says, so that the message names the way out; nothing if it is not known."""
    known = _WAYS_OUT.get(error.errno or 0)
    return "" if known is None else f"; {known}"
