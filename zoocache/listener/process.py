"""The listener's process: two threads between the segment and the server.

    main      hears: what comes over the channel is done at once; about once a second it asks the server whether that
              was all. Renews the leases of this host's flights. Looks whether anybody is left
    sender    sleeps until somebody rings (shm/wake.py), then sends what is in the outbox

It leaves when nobody else has been attached for LINGER_S and nothing is left to send; at once if the segment is gone
(those who use the next one start the next listener); and when it is told to (SIGTERM, SIGINT). What goes wrong with the
server is waited out. In the foreground it waits for its turn, and stays.

What guards what: `Ending.is_near` is set once and never taken back, by a single store, for a signal handler must not
take a lock (an Event's would do); so nobody sleeps for longer than STEP_S without a look. The rest guards itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from zoocache import clock
from zoocache.bus.redis import RedisBus
from zoocache.config import Settings
from zoocache.engine.hosts import Hosts
from zoocache.errors import Busy, ConfigError, ServerDown, ServerRefused, StorageError
from zoocache.listener.starter import take_back
from zoocache.server.link import Link
from zoocache.server.url import address_of
from zoocache.shm.attachment import attach, attach_to_existing
from zoocache.shm.layout import H_BUS_N, H_BUS_WANT, H_CAUGHT_UP, H_LISTENER_MS, H_LISTENER_PID, H_REFUSED
from zoocache.shm.segment import Orphaned, Segment
from zoocache.storage.opening import far_store, near_store
from zoocache.trie import Trie

if TYPE_CHECKING:
    from zoocache.bus import Ear

log = logging.getLogger("zoocache")

STEP_S = 0.25
"""How long the main thread waits at most before it looks after everything else."""

ASK_S = 1.0
"""How often the server is asked whether all was heard."""

RENEW_S = 0.3
LEASE_MS = 1000
"""Leases of this length are renewed so often."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.8
"""What is waited for a server that is out of reach."""

LINGER_S = 3.0
"""How long it stays though nobody else is attached: programs come and go."""

REMAINS_S = 60.0
"""How long it tries to send what is left of a segment that is gone."""

PROPAGATION_S = 0.02
"""A number that was seen before it was heard is mostly on its way; after this it is asked for."""

STORE_TIMEOUT_S = 0.25
"""How long a write to this host's store waits for another process, before it is put off to the next second."""

TURN_S = 0.2
"""How often one in the foreground looks whether it is its turn."""


class Ending:
    """Whether this process is to end: `is_near`."""

    is_near = False

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT say so, for as long as this lasts: who listens in a program of his own may go on
        afterwards, and what he forks then must end as before."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None: one that was not set from Python, and cannot be set again from here
                    signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.is_near = True


class Listener:
    """See the head of this file.

    Args:
        settings: of the processes that it serves; `server_url` is not None.
        segment: this process is its listener.
        ending: tells when to leave.
        stays: whether it stays when nobody else is attached.
    """

    def __init__(self, settings: Settings, segment: Segment, ending: Ending, *, stays: bool) -> None:
        assert settings.server_url is not None
        self._settings = settings
        self._stays = stays
        self._ending = ending
        self._trie = Trie(segment)
        link = Link(address_of(settings.server_url), settings.redis_timeout)
        self._bus = RedisBus(link, settings.prefix or "")
        self._far = far_store(settings, link)
        self._near = near_store(settings, STORE_TIMEOUT_S)
        self.hosts = Hosts(self._bus, self._near, self._far is not None, settings.bus_url is not None)
        self._ear: Ear | None = None
        self._is_leaving = False
        self._ask_s = min(ASK_S, (settings.max_bus_lag or ASK_S) / 4)
        self._due_s = {"ask": 0.0, "renew": 0.0, "prune": time.monotonic() + settings.auto_prune_interval}
        self._alone_s = time.monotonic()
        self._wanted = 0, 0.0  # a number that was met before it was heard, and when
        self._pause_s = 0.0
        self._has_warned = False

    def _leaves(self) -> bool:
        return self._is_leaving or self._ending.is_near

    def run(self) -> None:
        """Serve until it is time to leave."""
        sys.setswitchinterval(0.0005)  # neither thread waits longer for the other; the default is ten times as long
        segment = self._trie.segment
        segment.claim_slot(clock.wall_ms())
        segment.words[H_LISTENER_PID] = os.getpid()
        segment.words[H_LISTENER_MS] = 0  # it has come: should it be killed, its successor need not wait
        sender = threading.Thread(target=self._send, name="zoocache-sender", daemon=True)
        sender.start()
        try:
            while not self._leaves() and self._is_needed():
                self._step()
        except Orphaned:
            log.info("zoocache: segment %s is gone; its listener leaves", segment.name)
            self._send_remains()
        finally:
            self._end(sender)

    def _rest(self, duration_s: float) -> None:
        until_s = time.monotonic() + duration_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._leaves():
            time.sleep(min(left_s, STEP_S))

    def _send_remains(self) -> None:
        """Whoever invalidated on a segment that is gone was told that it would be sent."""
        until_s = time.monotonic() + REMAINS_S
        while not self._ending.is_near and time.monotonic() < until_s and not self.hosts.send_remains(self._trie):
            time.sleep(STEP_S)

    # The main thread.

    def _step(self) -> None:
        """Wait for what comes, then look after what is due."""
        troubles = [error for duty in (self._hear, self._renew, self._prune) if (error := _trouble(duty)) is not None]
        if troubles:
            self._stumble(troubles[0])
        else:
            self._pause_s, self._has_warned = 0.0, False
            self._trie.words[H_REFUSED] = 0
        if not self._trie.segment.outbox.is_empty():
            self._ring()

    def _hear(self) -> None:
        if not self.hosts.hears:
            self._rest(STEP_S)
            if self._is_due("ask", self._ask_s):
                self.hosts.catch_up(self._trie, clock.now())
            return
        deaf = _trouble(self._open_ear)
        try:
            if self._is_due("ask", self._ask_s) or self._is_late():
                self.hosts.catch_up(self._trie, clock.now())
            heard = [] if self._ear is None else self._ear.hear(min(STEP_S, self._ask_s))
        except (ServerDown, ServerRefused):
            self._close_ear()
            raise
        if heard:
            self.hosts.hear(self._trie, heard, clock.now())
        if deaf is not None:  # who may not listen may ask, all the same
            raise deaf

    def _open_ear(self) -> None:
        if self._ear is None:
            self._ear = self._bus.listen()
            self._due_s["ask"] = 0.0  # what was sent before that

    def _is_late(self) -> bool:
        """Whether a number that somebody has met was not heard for longer than a message takes."""
        words, now_s = self._trie.words, time.monotonic()
        n, since_s = self._wanted
        if n <= words[H_BUS_N]:
            self._wanted = words[H_BUS_WANT], now_s
            return False
        return now_s - since_s > PROPAGATION_S

    def _close_ear(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def _renew(self) -> None:
        if self._far is not None and self._is_due("renew", RENEW_S):
            leases = self._trie.segment.claims.leased()
            if leases:
                self._far.renew(leases, LEASE_MS)

    def _prune(self) -> None:
        """A store on this host is pruned by those who use it."""
        settings = self._settings
        if self._far is not None and settings.prune_after and self._is_due("prune", settings.auto_prune_interval):
            self._far.prune(settings.prune_after_ms, clock.now())

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _stumble(self, error: Exception) -> None:
        """Tell once what is wrong, and wait a little, longer each time."""
        if not self._has_warned:
            self._has_warned = True
            log.warning("zoocache: the listener goes on as soon as it can: %s", error)
        if isinstance(error, ServerRefused):
            self._trie.words[H_REFUSED] = 1  # users ask nobody themselves: see engine/mutations.py
        self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
        self._rest(self._pause_s)

    def _is_needed(self) -> bool:
        segment = self._trie.segment
        if not segment.is_still_current():
            segment.retire()
            raise Orphaned(segment.name)
        now_s = time.monotonic()
        if self._stays or segment.has_others() or not segment.outbox.is_empty():
            self._alone_s = now_s
        return now_s - self._alone_s < LINGER_S

    def _await(self, sender: threading.Thread) -> None:
        """Ring again and again: one that was just opening what it sleeps on has missed the first time."""
        until_s = time.monotonic() + 2 * self._settings.redis_timeout + STEP_S
        while sender.is_alive() and time.monotonic() < until_s:
            self._ring()
            sender.join(STEP_S)

    def _ring(self) -> None:
        if (wake := self._trie.segment.wake) is not None:
            wake.ring()

    # The other thread.

    def _send(self) -> None:
        try:
            while not self._leaves():
                self._send_once()
        except Orphaned:
            log.debug("zoocache: the segment is gone; the main thread finds out too, and sends what is left")
        except Exception:
            log.exception("zoocache: the listener cannot send any more, and leaves")
            self._is_leaving = True

    def _send_once(self) -> None:
        wake = self._trie.segment.wake
        if wake is None or not wake.wait():
            self._rest(STEP_S)
        error = _trouble(lambda: self.hosts.drain(self._trie, clock.now()))
        if error is not None:
            log.debug("zoocache: the listener could not send: %s", error)

    def _end(self, sender: threading.Thread) -> None:
        self._is_leaving = True
        self._trie.segment.words[H_CAUGHT_UP] = 0  # from here on nobody hears
        self._await(sender)
        self._close_ear()
        self.hosts.close()
        if self._near is not None:
            self._near.close()
        self._trie.segment.words[H_LISTENER_PID] = self._trie.segment.words[H_REFUSED] = 0
        self._trie.segment.leave()


def _trouble(duty: Callable[[], object]) -> Exception | None:
    """Do it; what came in the way, if that passes by itself."""
    try:
        duty()
    except (StorageError, ServerRefused, Busy) as error:
        return error
    return None


def run_detached(options: dict[str, Any]) -> None:
    """The whole life of a listener that a user's process started; `options` are the fields of its `Settings`."""
    settings, ending = Settings(**options), Ending()
    with ending.on_signals():
        segment = attach_to_existing(settings.prefix or "", host_id=settings.host_id or "")
        if segment is None:
            return
        if _becomes_listener(segment):
            Listener(settings, segment, ending, stays=False).run()
        else:
            segment.leave()


def run(settings: Settings) -> None:
    """A listener in the foreground: waits while another is there, takes its place when that leaves, and stays until it
    is told to leave by SIGTERM or SIGINT. For the main thread of a process that does nothing else.

    Args:
        settings: of the processes that it serves.

    Raises:
        ConfigError: there is nothing to send to, and nothing to hear.
    """
    if settings.server_url is None:
        raise ConfigError("there is nobody to listen to: give bus_url, or a storage_url of Redis")
    ending = Ending()
    with ending.on_signals():
        while not ending.is_near:
            segment = attach(settings.prefix or "", settings.shm_size, host_id=settings.host_id or "")
            if _has_its_turn(segment, ending):
                Listener(settings, segment, ending, stays=True).run()
            else:
                segment.leave()


def _has_its_turn(segment: Segment, ending: Ending) -> bool:
    """Wait until no other process is the listener; False if there is nothing to wait for any more."""
    while not ending.is_near and segment.is_current():
        if _becomes_listener(segment):
            return True
        time.sleep(TURN_S)
    return False


def _becomes_listener(segment: Segment) -> bool:
    """Be the listener, unless there is one. What a killed one said goes before: who sees this one must not see that."""
    if segment.has_listener():
        return False
    take_back(segment)
    return segment.become_listener()
