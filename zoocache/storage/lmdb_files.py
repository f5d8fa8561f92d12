"""The directory of an LMDB store: which environment in it is the living one, and how it is marked and set aside.

    <directory>/living.epoch         a symbolic link to the living environment; missing: there is none
    <directory>/epoch.<16 hex>/      an environment: entries.mdb, numbers.mdb, and LMDB's lock file of each
    <directory>/zoocache.lock        the write lock, and what is known of the living environment; one page
    <directory>/set-aside.<N>/       what was found damaged or foreign, for the user to look at

`zoocache.lock` holds words of 8 bytes, in native order:

    0  MAGIC   who made this, and the format
    1  EPOCH   of the environment that the words below speak of
    2  MARK    0: clean, all is on the disk; a boot: written since, under that boot; SYNCED: every commit is synced
    3  SIZE of entries.mdb, 4 its inode, 5 the inode of its lock file, 6 its last transaction when MARK became 0
    7  SIZE of numbers.mdb, 8, 9, 10 likewise

Whoever has an environment open reads the link before it is used (2 us, the cheapest question there is about a name):
another target, or none, and it is no longer the store, whether it was replaced, removed or moved away. Then it opens
afresh, and trusts nothing of before. A burst does not ask each time: what a look found stays true for CURRENT_S from
the moment before it. Nobody is misled by that, because

    who withdraws an environment waits for so long after the link is gone, before anything else happens
    who opens one waits for so long after it was found to be the living one, before it is used

so by the time that anything is done elsewhere, which a call that starts later must see, every look that found the old
environment is too old to be trusted. A process that was stopped in between looks at the clock in a call that began
before. (Only a person who swaps two environments by hand, to and fro, between two looks of one process can make another
one read what is a millisecond old.) The clock is the monotonic one, which is the host's.

A writer holds the flock of `zoocache.lock`, maps its page to read, and changes words by `pwrite`, which fails on a full
disk where a store into a mapping would be a SIGBUS. An environment is built and described to its end before the link
leads to it, and the link is gone before anything happens to its directory. Killed between any two steps, a process
leaves either the one or the other; what lies there without the link leading to it is removed by the next builder. If
the lock file itself is lost, its successor describes nothing, so the first who takes it builds anew.

The inodes tell a copy that was restored, and a file that somebody replaced, from what invalidations were written into:
both are set aside. They, the size and the owner are looked at before LMDB sees a file.

Why a directory a life, and not data files that are renamed in place: a process opens the living environment without
the lock, whose holder may be stopped for ever, and hits wait for nobody. LMDB creates what it does not find; with fixed
names such an opener could create a file in the middle of somebody else's rebuilding.

The mark: LMDB runs without fsync. A killed process loses nothing, for its pages are the kernel's; a power cut may tear
a file in ways that LMDB cannot see. So the boot is put down, and synced, before the first write after a clean state; an
environment that another boot has marked is dropped.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import re
import struct
import time
from collections.abc import Sequence

from zoocache.digests import blake2b
from zoocache.errors import StorageError, ZooCacheError
from zoocache.log import log
from zoocache.shm import kernel, points
from zoocache.shm.lock import Lock
from zoocache.storage.lmdb_refusals import refuse_others, trouble

LOCK = "zoocache.lock"
LINK = "living.epoch"
"""No name of ours is a plain prefix, nor does it start as those of environments do."""
TABLES = ("entries", "numbers")
MAGIC = int.from_bytes(b"zooLock1", "little")
WORD_MAGIC, WORD_EPOCH, WORD_MARK, WORD_TABLES = range(4)
SIZE, DATA_INODE, LOCK_INODE, CLEAN_TXN = range(4)
SYNCED = (1 << 64) - 1
CURRENT_S = 0.001
"""For so long a look at the link is believed; see there."""
SET_ASIDES = 3
"""So many damaged environments are kept, the next is removed. Files that were not made here are never removed."""

_PAGE = 4096
_WORD = struct.Struct("=Q")
_RECORD = struct.Struct("=11Q")
_PLAIN_PREFIX = re.compile(r"[a-z0-9_-]{1,64}")


def directory_of(path: str, prefix: str) -> str:
    """The directory of one prefix's store: `path` itself for "", else one in it.

    Two prefixes never share one: what is no plain lower-case name gets a hash behind a '+', which no plain name has.
    """
    if not prefix:
        return path
    if _PLAIN_PREFIX.fullmatch(prefix):
        return os.path.join(path, prefix)
    digest = blake2b(prefix.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return os.path.join(path, f"{re.sub('[^a-z0-9_-]', '_', prefix.lower())[:40]}+{digest}")


def target_of(epoch: int) -> bytes:
    """Where the link leads while this epoch lives."""
    return b"epoch.%016x" % epoch


def word(table: str, which: int) -> int:
    """Where a table's word stands: `word("numbers", CLEAN_TXN)`."""
    return WORD_TABLES + 4 * TABLES.index(table) + which


class Home:
    """A directory with its lock file open; see the head of this file.

    Args:
        directory: as `prepare` left it.
        timeout_s: how long a write waits for another.

    Attributes:
        directory: where it is.
        link: the name of the link, as the system takes it.
        lock: the write lock of the store, on a description of its own.
        words: the page of the lock file, read only.

    Raises:
        StorageError: the lock file cannot be opened, or is refused.
        Busy: it is being made by a process that was stopped.
    """

    __slots__ = ("_description", "_inode", "_name", "directory", "link", "lock", "words")

    def __init__(self, directory: str, timeout_s: float) -> None:
        self.directory = directory
        self.link = os.fsencode(os.path.join(directory, LINK))
        self._name = os.path.join(directory, LOCK)
        try:
            self._description = description = kernel.Description(_open(self._name))
            fd = description.fd
            self.lock = Lock(lambda: kernel.reopen(description.fd), None, f"lmdb storage {directory}", timeout_s)
            found = os.fstat(fd)
            if found.st_size < _PAGE:
                self.lock.run(_fill, fd)
            with kernel.stdio_taken():  # mmap keeps a duplicate
                self.words = memoryview(mmap.mmap(fd, _PAGE, prot=mmap.PROT_READ)).cast("Q")
        except ZooCacheError:
            raise
        except OSError as error:
            raise trouble(self._name, error) from error
        self._inode = (found.st_dev, found.st_ino)

    def is_locked_by_all(self) -> bool:
        """Whether who opens the directory now would take this very lock; asks the path."""
        try:
            found = os.stat(self._name)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def is_lost(self) -> bool:
        """Whether other code has closed its descriptor, and so LMDB's, as far as can be seen."""
        return not self._description.is_whole()

    def living(self) -> int:
        """The epoch of the living environment, if the words speak of it; else 0."""
        epoch = self.words[WORD_EPOCH]
        try:
            target = os.readlink(self.link)
        except OSError:
            return 0
        return epoch if self.words[WORD_MAGIC] == MAGIC and target == target_of(epoch) else 0

    def environment(self, epoch: int) -> str:
        """The directory of an epoch's environment."""
        return os.path.join(self.directory, os.fsdecode(target_of(epoch)))

    def file(self, epoch: int, table: str) -> str:
        """The data file of a table; LMDB's lock file is beside it, with `-lock` appended."""
        return os.path.join(self.environment(epoch), f"{table}.mdb")

    def is_whole(self, epoch: int) -> bool:
        """Whether the files of this epoch are the ones that were made for it, and none was cut short.

        Raises:
            StorageError: they belong to another user, or others may write to them.
        """
        return all(self._is_whole(self.file(epoch, table), table) for table in TABLES)

    def _is_whole(self, file: str, table: str) -> bool:
        words, at = self.words, word(table, SIZE)
        size = words[at + SIZE]  # LMDB never changes it: with another one, the word is damaged or the file is
        return (
            _is_file(file, words[at + DATA_INODE], size)
            and os.lstat(file).st_size == size
            and _is_file(f"{file}-lock", words[at + LOCK_INODE], 0)
        )

    # The rest is called by whoever holds the lock.

    def publish(self, epoch: int, mark: int) -> None:
        """Describe an environment that was built, and let the link lead to it."""
        record = [MAGIC, epoch, mark]
        for table in TABLES:
            file = self.file(epoch, table)
            found = os.stat(file)
            record += [found.st_size, found.st_ino, os.stat(f"{file}-lock").st_ino, 0]
        os.pwrite(self._description.fd, _RECORD.pack(*record), 0)
        os.fdatasync(self._description.fd)
        os.symlink(target_of(epoch), self.link)

    def withdraw(self) -> None:
        """From here on there is no living environment; not after a power cut either."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.link)
        time.sleep(CURRENT_S)
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def mark_dirty(self, mark: int) -> None:
        """Put down, and onto the disk, that writes begin under this boot."""
        self._put(WORD_MARK, mark)
        os.fdatasync(self._description.fd)
        if points.ARMED:
            points.reach("store.marked")

    def mark_clean(self, last_txns: Sequence[int]) -> None:
        """Put down that all is on the disk, up to these transactions of the tables, and nothing came after them."""
        for table, last_txn in zip(TABLES, last_txns, strict=True):
            self._put(word(table, CLEAN_TXN), last_txn)
        self._put(WORD_MARK, 0)
        os.fdatasync(self._description.fd)

    def _put(self, at: int, value: int) -> None:
        os.pwrite(self._description.fd, _WORD.pack(value), at * 8)

    def dispose(self, why: str, *, damaged: bool) -> None:
        """Withdraw the living environment, and get rid of its files.

        Args:
            why: what is wrong with it.
            damaged: set it aside, with a warning, so that somebody can look at it.
        """
        epoch = self.words[WORD_EPOCH]
        made_here = all(
            _is_file(self.file(epoch, table), self.words[word(table, DATA_INODE)], 0) for table in TABLES
        )  # fmt: skip
        self.withdraw()
        if not epoch:
            log.debug("zoocache: %s: %s", self.directory, why)
        elif damaged and made_here and len(self._listed("set-aside.")) >= SET_ASIDES:
            log.warning("zoocache: %s: %s; it is removed, the cache begins empty", self.environment(epoch), why)
        elif damaged:
            self._set_aside([os.fsdecode(target_of(epoch))], why)
        else:
            log.info("zoocache: %s: %s; it is removed, the cache begins empty", self.environment(epoch), why)
        self.sweep()

    def disown(self) -> None:
        """Set the lock file itself aside, with all environments."""
        self.withdraw()
        self._set_aside([*self._listed("epoch."), LOCK], f"{LOCK} has another format, or is not of zoocache")

    def sweep(self) -> None:
        """Remove the environments that were never published, or are given up."""
        for name in self._listed("epoch."):
            _remove(os.path.join(self.directory, name))

    def _listed(self, start: str) -> list[str]:
        return [name for name in os.listdir(self.directory) if name.startswith(start)]

    def _set_aside(self, names: Sequence[str], why: str) -> None:
        present = [name for name in names if os.path.lexists(os.path.join(self.directory, name))]
        if not present:
            log.warning("zoocache: %s: %s; the cache begins empty", self.directory, why)
            return
        aside = _new_directory(os.path.join(self.directory, "set-aside."))
        for name in present:
            os.rename(os.path.join(self.directory, name), os.path.join(aside, name))
        log.warning("zoocache: %s: %s; it was set aside as %s, the cache begins empty", self.directory, why, aside)


def _open(name: str) -> int:
    """Open, or make, the lock file of a directory."""
    fd = kernel.above_stdio(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        refuse_others(name, os.fstat(fd))
    except StorageError:
        os.close(fd)
        raise
    return fd


def _fill(fd: int) -> None:
    """Give the lock file its page, of real zeros: a mapping of less would be a SIGBUS."""
    size = os.fstat(fd).st_size
    if size < _PAGE:
        os.pwrite(fd, bytes(_PAGE - size), size)


def _is_file(name: str, inode: int, size: int) -> bool:
    try:
        found = os.lstat(name)
    except OSError:
        return False
    if found.st_ino != inode or found.st_size < size:
        return False
    refuse_others(name, found)
    return True


def _new_directory(start: str) -> str:
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{start}{number}", 0o700)
            break
    return f"{start}{number}"


def _remove(environment: str) -> None:
    """Remove what LMDB made, and the directory unless somebody else put something into it."""
    for table, end in itertools.product(TABLES, (".mdb", ".mdb-lock")):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(environment, table + end))
    with contextlib.suppress(OSError):
        os.rmdir(environment)
