"""Whether this host hears the others, as one process of it sees that in passing.

    look             about once a second: see to it that there is a listener, and drop what is live if nobody listened
                     for a part of the time since the last look
    see_to_sending   something was left to the listener: is there one at this moment
    may_load         may what lies on this host (LMDB) be believed: not before all that was missed has been heard
    is_near          is the host no further behind than `max_bus_lag` allows

`H_CAUGHT_UP` tells whether the host is listened to, or was when a listener last could: one that leaves takes it back,
and so does whoever finds none. With the server out of reach it stays as it is: the host goes on with what it has, and
`max_bus_lag` is the bound of that. But for a host that nobody listened to although the server was there, a moment's
patience brings all it missed; so what is live goes, and is filled again. What is filled from then on the next
listener's first catch-up reaches, and what was live in processes that did not look meanwhile, too.

What guards what: the words of a Watch are hints of this process, each set by a single store.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from zoocache import clock
from zoocache.engine.effects import Pause, Steps
from zoocache.log import log
from zoocache.shm.lock import pauses

if TYPE_CHECKING:
    from zoocache.engine.hosts import Hosts
    from zoocache.trie import Trie

WATCH_S = 1.0
"""How often, in passing, a process looks whether its host's listener lives."""

CATCH_UP_S = 0.5
"""How long a process waits for what its host missed before it counts what lies there as misses: from its start, and
from when it finds that nobody listens."""

SERVED_S = 0.001
"""For so long a listener that was found counts as there, for those who leave something to it: a burst of invalidations
does not ask the kernel each time. Its keeper follows it up within that, and longer; what is left is a host whose
listener and keeper are both killed and that is idle from then on, which a look could precede as well."""

SILENT_MS = 5000
"""A host that has heard nothing for so long, and still nothing as long after that was seen, is told of in the log."""

_TOLD = -1


class Watch:
    """See the head of this file.

    Args:
        hosts: to hear.
        ensure: sees that the host of a segment has a listener; whether it has.
        lost: drops all that is live in this process.
        bound_ms: `max_bus_lag`; 0 for none.

    Attributes:
        has_listener: whether the host had one at the last look.
    """

    __slots__ = ("_beat_ms", "_bound_ms", "_deaf_ms", "_ensure", "_hosts", "_lost", "_next_s", "_patience_s",
                 "_served", "_was_heard", "has_listener")  # fmt: skip

    def __init__(
        self, hosts: Hosts, ensure: Callable[[Trie], bool], lost: Callable[[], object], bound_ms: int
    ) -> None:  # fmt: skip
        self._hosts, self._ensure, self._lost, self._bound_ms = hosts, ensure, lost, bound_ms
        self._next_s = 0.0
        self._beat_ms = clock.up_ms()  # up to when all was heard, at the last look; the beat of a catch-up is its start
        self._deaf_ms = 0  # when silence was first seen; 0: it was not, _TOLD: the log has it
        self._patience_s = monotonic() + CATCH_UP_S
        self._served = 0, 0.0  # the segment that had a listener, and until when that is believed
        self.has_listener = self._was_heard = False

    @property
    def pause_s(self) -> float:
        """How often the live objects ask."""
        return min(WATCH_S, self._bound_ms / 1000) if self._bound_ms else WATCH_S

    def look(self, trie: Trie) -> bool:
        """In passing: whether live objects may be believed."""
        if monotonic() >= self._next_s and not self._is_still_heard(trie):
            return False
        return not self._bound_ms or self.is_near(trie)

    def _is_still_heard(self, trie: Trie) -> bool:
        """False, and all that was live is dropped, if the host was listened to since the last look and is not now.

        Threads that come at once all look: one that relied on another's look would believe what that is about to drop.
        """
        self.has_listener = self._ensure(trie)
        now_ms = clock.up_ms()
        lag_ms = self._hosts.lag_ms(trie, now_ms)
        beat_ms = now_ms - lag_ms
        # After the beat, which a listener notes later: or its first catch-up, amid these steps or they amid its own,
        # would look like one that was over again.
        is_heard = self._hosts.has_caught_up(trie)
        is_lost = not is_heard and (self._was_heard or beat_ms > self._beat_ms)
        if is_lost:
            self._patience_s = monotonic() + CATCH_UP_S
            self._lost()
        self._was_heard, self._beat_ms = is_heard, beat_ms  # now only: who reads these finds nothing live to believe
        self._next_s = monotonic() + WATCH_S
        self._tell_of_silence(trie, now_ms, lag_ms)
        return not is_lost

    def _tell_of_silence(self, trie: Trie, now_ms: int, lag_ms: int) -> None:
        """Once for each time that the host hears nothing. The listener knows why, but has no log that anybody reads."""
        if lag_ms < SILENT_MS:
            self._deaf_ms = 0
        elif not self._deaf_ms:
            self._deaf_ms = now_ms
        elif self._deaf_ms != _TOLD and now_ms - self._deaf_ms >= SILENT_MS:
            self._deaf_ms = _TOLD
            log.warning("zoocache: this host hears nothing of what others invalidate: %s", self._hosts.why_deaf(trie))

    def see_to_sending(self, trie: Trie) -> None:
        """Something was left to the listener: there must be one now, and not a second ago. The caller may be idle, or
        gone, from here on."""
        segment, now_s = trie.segment, monotonic()
        served, until_s = self._served
        if now_s < until_s and served == segment.incarnation:
            return
        if segment.has_listener():
            self._served = segment.incarnation, now_s + SERVED_S
        else:
            self._is_still_heard(trie)

    def is_near(self, trie: Trie) -> bool:
        """Whether the host is no further behind the others than was allowed."""
        return not self._bound_ms or self._hosts.lag_ms(trie, clock.up_ms()) <= self._bound_ms

    def first_catch_up(self, trie: Trie) -> Steps[None]:
        """Before a load from what lies on this host: wait for what it missed while nobody listened. It looks first: a
        listener that was killed has left its word that it had caught up, and who has not looked yet, or not for long,
        may be the first to come here since then.
        """
        self.look(trie)
        for pause_s in pauses():
            if self._hosts.has_caught_up(trie) or monotonic() >= self._patience_s:
                break
            yield Pause(pause_s)
            self.look(trie)

    def may_load(self, trie: Trie) -> bool:
        """Whether what lies on this host may be believed. Who believes it has seen that the host is heard: a listener
        that is killed between the end of its first catch-up and its first beat leaves no other trace to a look."""
        if not self._hosts.has_caught_up(trie):
            return False
        self._was_heard = True
        return self.is_near(trie)
