"""Closing an environment, so that it survives a power cut: all is on the disk, and it is marked clean.

    note the last transaction of each table; sync both, without the lock, for that takes as long as the disk does;
    under the lock: if those still are the last ones, the mark

Killed in between, or where somebody wrote meanwhile, nothing is marked: he closes after it. A thread of this process
that holds the lock at that moment may have looked already whether it has to (lmdb_access.py), so the lock is tried for
a while.

A sync that failed is no trouble that passes: the kernel tells each descriptor once, and takes the pages for clean
afterwards. The next sync would succeed without them, so such an environment is given up.
"""

from __future__ import annotations

import errno
import time

import lmdb

from zoocache.errors import ZooCacheError
from zoocache.log import log
from zoocache.storage import lmdb_locked as locked
from zoocache.storage.lmdb_environment import Attached, give_up
from zoocache.storage.lmdb_files import WORD_MARK
from zoocache.storage.lmdb_refusals import number_of

PAUSES_S = (0.0, 0.001, 0.004, 0.016)
"""What is waited for the lock."""

TORN = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""Pages did not get to the disk."""


def close(attached: Attached) -> None:
    """Close in order, if it is the living environment and this boot has written to it."""
    if attached.home.is_lost():
        give_up(attached, lost=True)
        return
    try:
        if attached.home.words[WORD_MARK] == attached.mark and attached.is_living():
            _mark(attached, _synced(attached))
    except (lmdb.Error, OSError) as error:
        log.warning(
            "zoocache: %s could not be synced, a power cut will empty it: %s", attached.home.directory, error
        )  # fmt: skip
        if number_of(error) in TORN:
            _give_up(attached, error)


def _synced(attached: Attached) -> list[int]:
    last_txns = locked.last_transactions(attached)
    attached.entries.env.sync(True)
    attached.numbers.env.sync(True)
    return last_txns


def _mark(attached: Attached, last_txns: list[int]) -> None:
    for pause_s in PAUSES_S:
        time.sleep(pause_s)
        if attached.lock.try_run(locked.mark_clean, attached, last_txns)[0]:
            break


def _give_up(attached: Attached, error: Exception) -> None:
    try:
        attached.lock.run(locked.dispose, attached, f"its pages did not get to the disk ({error})", False)
    except (OSError, ZooCacheError) as stuck:
        log.warning("zoocache: %s could not be given up either: %s", attached.home.directory, stuck)
