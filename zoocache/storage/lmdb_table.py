"""One of LMDB's environments, as this process has it open: each file once, and never one of before a fork.

LMDB's locks are record locks, which a process loses when it closes any descriptor of the file: a second opening of the
same file would unlock the first when it ends. So all stores of a process share what is in `_present`.

After a fork the child must neither use nor close what it inherited: closing gives up reader slots of the parent, under
its feet. So the child keeps a reference to all of it, for ever, and opens its own. So does a process whose descriptors
other code has closed.

What guards what: `_present` changes under the lock with which `lmdb_environment` lets one thread open at a time, and in
`own_process`, which a forked child runs before it has threads. `_inherited` only grows.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import time
import weakref
from collections.abc import Iterable, Iterator

import lmdb
from lmdb import _envid

from zoocache.imports import whole
from zoocache.shm import kernel
from zoocache.shm.lock import stood_s

MAX_READERS = 2048

_LOCK_BYTES = 64 * (MAX_READERS + 2)
"""LMDB's lock file: 64 bytes a reader, and a head. It takes as many readers as there is room for."""

_CLOSING_S = 1.0


class Table:
    """One of LMDB's environments, open in this process.

    Attributes:
        env, begin: LMDB's.
        main: the handle of its only database.
        size: of its map, in bytes.
        full: the bytes of its pages in use from which on something has to give way: three quarters. The rest is for the
            copies that LMDB writes of what it changes, and for gaps too small for a large value.
        is_full: whether it was found so full; then it stays worth while to note what is used.
        page_bytes: of how many pages one transaction drops entries, to make room: LMDB copies each of them.
    """

    __slots__ = ("__weakref__", "begin", "env", "full", "is_full", "main", "page_bytes", "size")

    def __init__(self, env: lmdb.Environment, size: int) -> None:
        self.env, self.begin, self.main = env, env.begin, env.open_db()
        self.size = size
        self.full = size * 3 // 4
        self.is_full = False
        self.page_bytes = size // 16


_present: weakref.WeakValueDictionary[tuple[int, int], Table] = weakref.WeakValueDictionary()
_inherited: list[Table] = []
_pid = 0


def open_table(file: str, size: int, *, synced: bool) -> Table:
    """The table in this file, which this process may have open already.

    Args:
        file: exists, as does LMDB's lock file beside it.
        size: of its map, in bytes.
        synced: whether every commit is synced.

    Raises:
        lmdb.Error: it cannot be opened.
        OSError: it is not there.
    """
    found = os.stat(file)
    table = _present.get((found.st_dev, found.st_ino))
    if table is None:
        table = Table(_open(file, size, synced=synced), size)
        table.env.reader_check()
        _present[found.st_dev, found.st_ino] = table
    return table


def build_table(file: str, size: int, first: tuple[bytes, bytes], *, synced: bool) -> Table:
    """Make a table with this first record.

    The file gets its whole size at once, as a hole: then one that is shorter was cut, and no page of it is a SIGBUS.
    LMDB's lock file is made before LMDB would make it, with all its pages: LMDB maps a hole and writes into that.
    """
    size -= size % mmap.PAGESIZE
    with open(os.open(f"{file}-lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
        made.write(bytes(_LOCK_BYTES))
    table = Table(_open(file, size, synced=synced), size)
    with table.begin(write=True) as txn:
        txn.put(*first)
    os.truncate(file, size)
    found = os.stat(file)
    _present[found.st_dev, found.st_ino] = table
    return table


def _open(file: str, size: int, *, synced: bool) -> lmdb.Environment:
    """Open a file as LMDB; wait for a thread of this process that is just closing it."""
    deadline = time.monotonic() + _CLOSING_S
    while True:
        try:
            return _open_beside_inherited(file, size, synced=synced)
        except lmdb.Error as error:
            if "already open in this process" not in str(error) or time.monotonic() > deadline:
                raise
        planned = time.monotonic() + 0.001
        time.sleep(0.001)
        deadline += stood_s(planned)


def _open_beside_inherited(file: str, size: int, *, synced: bool) -> lmdb.Environment:
    """py-lmdb keeps a set of the files that are open in this process, to refuse a second opening. A fork copies the set
    into a process where none of them is open, and who closes all descriptors leaves it as it was; then, for this call,
    its keys say whose they are, and that they are later."""
    with kernel.stdio_taken(), _keys_of_later() if _inherited else contextlib.nullcontext():
        return lmdb.open(
            file, subdir=False, map_size=size, max_readers=MAX_READERS, mode=0o600, sync=synced, metasync=synced,
            max_spare_txns=1,  # so a load takes no new slot, nor with it a mutex in which a stopped process may stand
            lib_version=0,  # whatever LMDB_DEFAULT_LIB_VERSION says: another format is for another release
        )  # fmt: skip


@contextlib.contextmanager
def _keys_of_later() -> Iterator[None]:
    original = _envid.env_keys
    _envid.env_keys = lambda *args: tuple((*key, os.getpid(), len(_inherited)) for key in original(*args))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        _envid.env_keys = original


def abandon(table: Table, *, lost: bool) -> None:
    """Let go of a table, which can then be opened anew.

    Args:
        table: LMDB itself has given it up (a panic), or other code has closed its descriptors.
        lost: the latter: it is never closed, for LMDB would close what has those numbers since.
    """
    for key in [key for key, each in _present.items() if each is table]:
        del _present[key]
    if lost:
        _inherit([table])
    else:
        table.env.close()


def _inherit(tables: Iterable[Table]) -> None:
    if not _inherited:
        atexit.register(_leak)
    _inherited.extend(tables)


def own_process() -> None:
    """Make sure that nothing here is of a process that forked this one: at each opening, and right after a fork."""
    global _pid  # noqa: PLW0603  # whose `_present` is
    if _pid == 0:
        os.register_at_fork(after_in_child=own_process)
    elif _pid != os.getpid():
        _inherit(_present.values())
        _present.clear()
    _pid = os.getpid()


def _leak() -> None:
    """At its end the interpreter would collect them, and so close them. With one reference more it does not."""
    with whole:
        import ctypes

    for table in _inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(table))
