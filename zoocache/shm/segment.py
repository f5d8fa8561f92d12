"""The segment: one object in shared memory that all processes of a user and prefix on this host are attached to.

How it is found, made and proved whole: object.py. How one comes to have one, and how it is removed: attachment.py. What
its words mean: layout.py.

Names vanish under one (systemd's RemoveIPC at logout, a person's rm). An object without a name is an orphan: others
attach to a new one and their invalidations do not reach it. Every mutation looks whether the object still has its
name (a link count of 0 tells), and reading looks now and then. Who finds an orphan retires it: floor and `inserts` to
the top, then state, then seq; every process that is attached falls out of its fast path at once and attaches anew.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from zoocache.log import log
from zoocache.shm import identity, kernel
from zoocache.shm import layout as at
from zoocache.shm.claims import Claims
from zoocache.shm.layout import MAGIC, layout_of
from zoocache.shm.lock import Lock
from zoocache.shm.object import CURRENT_S, is_sound_header, map_object, open_gate, retire
from zoocache.shm.outbox import Outbox, Unsound
from zoocache.shm.slots import NOBODY, Slots
from zoocache.shm.tables import Tables
from zoocache.shm.wake import Wake

T = TypeVar("T")

_monotonic = time.monotonic

LOCK_FREE = os.uname().machine in ("x86_64", "amd64", "AMD64") and sys.maxsize > 2**32
"""Whether lock-free readers see whole words, and stores in the program's order (x86-TSO, Sewell et al. 2010).
Elsewhere everything but "seq is unchanged" is read under the lock."""


class Orphaned(Exception):
    """The segment has lost its name or its sanity and was retired: attach anew, try again. Never leaves the engine."""


class Segment:
    """An attached segment. `attach` and `private` make one.

    Attributes:
        words: all of it as aligned u64.
        shared: False for a private segment, which only forked children share.
        lock: the write lock; `write` takes it.
        outbox: what the other hosts have still to be told.
        wake: wakes the listener; None for a private segment, which cannot have one.
    """

    def __init__(
        self, name: str, description: kernel.Description, size: int, shared: bool, lock_timeout_s: float
    ) -> None:
        self.name = name
        self.shared = shared
        self.layout = layout_of(size)
        self._description: kernel.Description | None = description  # None once this process has left
        raw = memoryview(map_object(description.fd, size))
        self.words = raw.cast("Q")
        gate = open_gate(name) if shared else None
        self.lock = Lock(self._open_again, gate, f"segment {name}", lock_timeout_s)
        self.lock.open()
        self.tables = Tables(self.words, raw, self.layout)
        self.slots = Slots(self.words, self.layout, description)
        self.claims = Claims(self.words, raw, self.layout, self.slots)
        self.outbox = Outbox(self.words, raw, self.layout)
        self.wake = Wake(identity.wake_name(name)) if shared else None
        self.incarnation = self.words[at.H_INCARNATION]
        self._current_s = 0.0
        # Two threads of a process must not take two slots. Re-entrant: a signal handler's call must not wait for the
        # one that it interrupted; it takes a slot of its own, and the one that it interrupted gives his back.
        self._claiming = threading.RLock()

    def _open_again(self) -> int:
        """Another description of the object, for the lock."""
        description = self._description
        if description is None:
            raise Orphaned(self.name)
        return kernel.reopen(description.fd)

    def write(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` under the write lock, on a segment that is proved to be the host's.

        Raises:
            Busy: another process kept the lock beyond the time-out.
            Orphaned: the segment was retired.
        """
        result: T = self.run(self._checked, action, args)
        return result

    def run(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` under the write lock. The action itself insists on currency, first thing.

        Whoever can write to the object may scribble over it. A counter that leaves its word, or a record that is none,
        shows it here; then the header tells whether that is what happened, or something else raised (a signal handler).

        Raises:
            Busy: another process kept the lock beyond the time-out.
            Orphaned: the segment was retired, or is damaged, or this process's descriptors were closed under it.
        """
        try:
            return self.lock.run(action, *args)
        except kernel.Lost:
            raise self._lost() from None
        except (ValueError, IndexError, OverflowError, Unsound):
            self._insist_on_sanity()
            raise

    def _lost(self) -> Orphaned:
        """Leave, for somebody has closed the descriptors: attached is who has them."""
        log.warning(
            "zoocache: segment %s: its descriptors were closed by other code of this process, as a program does that "
            "becomes a daemon; it attaches anew. Use the cache afterwards only, or call zoocache.reset() before.",
            self.name,
        )  # fmt: skip
        kernel.keep_mapped(self.words)
        self.leave()
        return Orphaned(self.name)

    def _insist_on_sanity(self) -> None:
        """Give a damaged segment up.

        Raises:
            Orphaned: it is damaged.
        """
        if not is_sound_header(self.words, self.layout.size):
            log.warning("zoocache: segment %s is damaged while in use; it is replaced", self.name)
            self._give_up()

    def is_still_current(self) -> bool:
        """`is_current`, asked at most every CURRENT_S: a burst of writes does not ask the kernel each time."""
        now_s = _monotonic()
        if now_s - self._current_s < CURRENT_S and self.words[at.H_STATE] == at.LIVE:
            return True
        if not self.is_current():
            return False
        self._current_s = now_s
        return True

    def try_write(self, action: Callable[..., T], *args: Any) -> tuple[bool, T | None]:
        """As `write`, but give up at once, with (False, None), if the lock is taken."""
        try:
            return self.lock.try_run(self._checked, action, args)
        except kernel.Lost:
            raise self._lost() from None
        except (ValueError, IndexError, OverflowError, Unsound):
            self._insist_on_sanity()
            raise

    def _checked(self, action: Callable[..., T], args: tuple[Any, ...]) -> T:
        if not self.is_still_current():
            self._give_up()
        return action(*args)

    def insist_on_currency(self) -> None:
        """Writer, under the lock, first thing.

        Raises:
            Orphaned: the segment has lost its name or its sanity and is retired, or this process has left it.
        """
        if not self.is_still_current():
            self._give_up()

    def _give_up(self) -> NoReturn:
        self.retire()
        raise Orphaned(self.name)

    def is_current(self) -> bool:
        """Whether this process is attached to it, and it still has its name and its sanity. Costs one system call."""
        words, description = self.words, self._description
        if description is None or words[at.H_MAGIC] != MAGIC or words[at.H_STATE] != at.LIVE:
            return False
        try:
            return os.fstat(description.fd).st_nlink > 0 or not self.shared
        except kernel.Lost:
            self._lost()
            return False

    def retire(self) -> None:
        """Make all who are attached let go. Needs no lock: each store only makes more of it stale.

        One who has left retires nothing: it no longer knows, and the others may be well.
        """
        if self._description is not None:
            retire(self.words)

    def claim_slot(self, wall_ms: int) -> int:
        """The word that names this process in claims; 0 if all slots are taken."""
        with self._claiming:
            try:
                return self.slots.owner or self.slots.claim(wall_ms)
            except kernel.Lost:
                self._lost()
                return NOBODY

    # The listener: a kernel lock tells whether there is one, whoever is killed.

    def become_listener(self) -> bool:
        """Be this host's listener as long as the process lives, unless another is."""
        return self._asked(kernel.try_exclusive, at.LOCK_LISTENER)

    def has_listener(self) -> bool:
        """Whether another process is."""
        return self._asked(kernel.is_held, at.LOCK_LISTENER)

    def has_others(self) -> bool:
        """Whether anybody else is attached."""
        return self._asked(kernel.is_held, at.LOCK_ATTACHED)

    def _asked(self, ask: Callable[[int, int], bool], byte: int) -> bool:
        """What the kernel says of a byte; False for who has left."""
        description = self._description
        try:
            return description is not None and ask(description.fd, byte)
        except kernel.Lost:
            self._lost()
            return False

    def after_fork(self) -> None:
        """In a forked child: a description of its own first, then let go of the parent's.

        The lock comes before that: what it closes makes room for the descriptor to be opened. A child that cannot have
        a description counts as one that has left, and attaches anew at its next write.
        """
        self._claiming = threading.RLock()
        self.lock.after_fork()
        self.slots.after_fork(None)
        inherited, self._description = self._description, None
        if inherited is None:
            return
        try:
            own = kernel.Description(kernel.reopen(inherited.fd))
            kernel.try_shared(own.fd, at.LOCK_ATTACHED)
            self.slots.after_fork(own)
            self._description = own
            self.lock.open()
        except OSError as error:
            log.warning("zoocache: a forked child could not keep segment %s: %s; it attaches anew", self.name, error)
            self._keep_if_lost(inherited)
        finally:
            inherited.close()

    def warn_if_removed(self) -> None:
        """Of an orphan that is about to be left. Who has left already has said why."""
        if self._description is not None:
            log.warning("zoocache: segment %s was removed under this process; attaching anew", self.name)

    def leave(self) -> None:
        """Detach in order. A thread that is in the middle of a write ends it; later ones meet `Orphaned`. The mapping
        goes with the last live object that refers to it."""
        self._keep_if_lost(self._description)
        self.slots.leave()
        self.lock.close()
        self._description = None

    def _keep_if_lost(self, description: kernel.Description | None) -> None:
        if description is not None and not description.is_whole():
            kernel.keep_mapped(self.words)
