"""What changes the cache for everybody: invalidate, delete, clear, prune, and what is said of a key that is set anew.

Where the store knows first and the segment second (engine/core.py), and what crosses to other hosts and how
(engine/hosts.py): these are the orders in which it happens.

    no other hosts      the store, then the segment
    memory or LMDB      the store, then in one lock round the segment and what the others are to be told
    Redis               noted as begun; told, by this caller; then in one lock round the segment and "done", or "unsent"
                        where Redis is out of reach: the listener sends it later, and the host takes nothing from Redis
                        until it has

A server that refuses this user is no outage, which passes by itself: who changes something is told of it, as soon as it
is done here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zoocache import clock, deps, keys
from zoocache.engine.effects import Ask, Pause, Steps, patiently
from zoocache.errors import NotSent, ServerRefused, StorageError, ZooCacheError
from zoocache.imports import whole
from zoocache.shm.segment import Orphaned
from zoocache.trie import Target, Trie, Words, target_of, words_of

if TYPE_CHECKING:
    from zoocache.bus import Message, Position
    from zoocache.engine.core import Engine
    from zoocache.engine.hosts import Hosts
    from zoocache.shm.outbox import Place
    from zoocache.storage import FarStore, Told

WAIT_S = 10.0
"""How long `wait=True` waits for the other hosts' server."""

LONGEST_PAUSE_S = 0.01


def invalidate(engine: Engine, tags: Sequence[str]) -> None:
    """Overtake everything that depends on the tags or on anything below them; for all modes but Redis storage.

    Raises:
        InvalidTag: a tag breaks the rules; nothing was invalidated.
        Busy, StorageError: it could not be done.
        ServerRefused: it is done here, but the server refuses to hear of it.
    """
    targets = targets_of(tags)
    if engine.store is not None:
        engine.store.invalidate([deps.own_path(tag) for tag in tags], clock.now())
    wall_ms = clock.wall_ms()
    hosts = engine.hosts
    if hosts is not None:
        _leave_word(engine, hosts, lambda trie: hosts.message(trie, tags=tags), targets, wall_ms)
    else:
        try:
            engine.trie.invalidate(targets, wall_ms)
        except Orphaned:
            engine.on_segment(lambda trie: trie.invalidate(targets, wall_ms))
    engine.prune_in_passing()


def targets_of(tags: Sequence[str]) -> list[Target]:
    """What an invalidation of these changes in the trie.

    Args:
        tags: plain text; of a subclass of `str` the caller has taken that (`deps.check_tag`).

    Raises:
        InvalidTag: a tag breaks the rules.
    """
    return [*map(target_of, tags)]


def invalidate_steps(engine: Engine, tags: Sequence[str], wait: bool) -> Steps[None]:
    """`invalidate` in every mode, and for tasks.

    Args:
        engine: of this process.
        tags: checked.
        wait: until the other hosts' server has it.

    Raises:
        NotSent: the server did not have it in time; it is done here, and will be sent.
        ServerRefused: as `tell`.
    """
    hosts = engine.hosts
    if hosts is None:
        yield from patiently(lambda: invalidate(engine, tags))
        return
    targets, paths = targets_of(tags), [deps.own_path(tag) for tag in tags]
    near = engine.near
    if near is not None:
        yield from patiently(lambda: near.invalidate(paths, clock.now()))
    position = yield from tell(engine, hosts, lambda trie: hosts.message(trie, tags=tags), targets, paths)
    if wait:
        yield from _until_sent(engine, hosts, position)
    engine.prune_in_passing()


def tell(
    engine: Engine, hosts: Hosts, said: Callable[[Trie], Message], targets: Sequence[Target], paths: Sequence[bytes]
) -> Steps[tuple[Trie, int]]:  # fmt: skip
    """Change the segment and tell the other hosts; the head of this file says in which order.

    Returns:
        Where in the outbox of which segment it stands.

    Raises:
        Busy: it could not be done.
        ServerRefused: it is done here, but the server refuses to hear of it; as soon as it does not, it is sent.
    """
    wall_ms = clock.wall_ms()
    if not hosts.through:
        return (yield from patiently(lambda: _leave_word(engine, hosts, said, targets, wall_ms)))
    engine.watch()  # should the caller be killed in the middle, the listener does the rest, so there must be one
    trie, begun, place = yield from patiently(lambda: engine.on_segment(lambda trie: _begin(hosts, trie, said(trie))))
    try:
        sent, refusal = yield from _send(engine, hosts, begun, paths, hosts.known(trie))
        left = yield from patiently(lambda: _finish(engine, hosts, trie, place, said, begun, targets, wall_ms, sent))
    except BaseException:
        hosts.abandon(trie, place)  # the listener does the rest, as it would for a caller that was killed
        engine.see_to_sending()
        raise
    if sent is None:
        engine.see_to_sending()
    if refusal is not None:
        hosts.note_refusal(left[0])
        raise ServerRefused(f"{refusal}. It is done on this host, and waits in its outbox") from refusal
    return left


def _leave_word(
    engine: Engine, hosts: Hosts, said: Callable[[Trie], Message], targets: Sequence[Target], wall_ms: int
) -> tuple[Trie, int]:
    """`tell`, where the listener sends it: what that was refused, the caller is told."""
    left = engine.on_segment(lambda trie: (trie, hosts.tell(trie, said(trie), targets, wall_ms)))
    engine.see_to_sending()
    hosts.insist(left[0])
    return left


def _begin(hosts: Hosts, trie: Trie, begun: Message) -> tuple[Trie, Message, Place]:
    return trie, begun, hosts.begin(trie, begun)


def _send(
    engine: Engine, hosts: Hosts, said: Message, paths: Sequence[bytes], known: Position | None
) -> Steps[tuple[Position | None, ServerRefused | None]]:  # fmt: skip
    """Where the server has it; None if it does not, and why, if it refuses this user."""
    try:
        sent: Position = yield Ask(hosts.bus, "send", said, paths, known)
    except ServerRefused as error:
        return None, error
    except StorageError as error:
        engine.tell_log(error)
        return None, None
    return sent, None


def _finish(
    engine: Engine, hosts: Hosts, trie: Trie, place: Place, said: Callable[[Trie], Message], begun: Message,
    targets: Sequence[Target], wall_ms: int, sent: Position | None,
) -> tuple[Trie, int]:  # fmt: skip
    """The last step; on a segment that has taken the first one's place it begins with the first again."""
    try:
        return trie, hosts.finish(trie, place, begun, targets, wall_ms, sent)
    except Orphaned:
        engine.reattach(trie)

    def anew(now: Trie) -> tuple[Trie, int]:
        return now, hosts.finish(now, hosts.begin(now, said(now)), said(now), targets, wall_ms, sent)

    return engine.on_segment(anew)


def _until_sent(engine: Engine, hosts: Hosts, position: tuple[Trie, int]) -> Steps[None]:
    start_s = time.monotonic()
    while not hosts.is_sent(*position):
        hosts.insist(position[0])
        waited_s = time.monotonic() - start_s
        if waited_s > WAIT_S:
            raise NotSent(
                f"done on this host, but {hosts.bus} did not take it within {WAIT_S:g} s; it stands in the outbox "
                "and will be sent"
            )
        engine.watch()
        yield Pause(min(LONGEST_PAUSE_S, max(0.0002, waited_s / 8)))


def set_anew(engine: Engine, far: FarStore, hosts: Hosts, what: tuple[Any, ...], computed: bool) -> Steps[None]:
    """Have a store between hosts keep a key that is set anew, and tell the others.

    What it tells is nobody's own (origin 0), so this host hears it too: should the caller be killed before it has told
    its own segment, the live objects of its neighbours go all the same.

    Args:
        engine, far, hosts: of this process.
        what: as `Store.save` takes it; the digest is the first.
        computed: as there.
    """
    with whole:
        from zoocache.bus.message import EVERYTHING, pack  # whoever has no other hosts need not load it

    engine.watch()
    trie = engine.trie
    said = pack(hosts.message(trie, digests=what[:1])._replace(origin=0))
    told: Told | None = yield Ask(far, "save_and_tell", *what, said, hosts.known(trie), EVERYTHING, computed=computed)
    if told is not None:
        yield from patiently(lambda: engine.on_segment(lambda now: hosts.note_sent(now, told)))


def overtake_key(
    engine: Engine, digest: bytes, paths: Sequence[Words] = (), since: int = 0
) -> tuple[Trie, int, bool]:  # fmt: skip
    """Make what is live under a key stale in every process.

    Args:
        engine: of this process.
        digest: of the key.
        paths, since: of what it is to become.

    Returns:
        Where, the host's number of that, and whether nothing had overtaken these paths since then, up to that number.
    """
    target = (*words_of(digest), b"")

    def overtake(trie: Trie) -> tuple[Trie, int, bool]:
        new, is_fresh = trie.segment.write(_overtake, trie, target, paths, since)
        trie.tell_neighbours()
        return trie, new, is_fresh

    return engine.on_segment(overtake)


def _overtake(trie: Trie, target: Target, paths: Sequence[Words], since: int) -> tuple[int, bool]:
    """Under the lock: nothing comes between the look and the number."""
    is_fresh = trie.sight(paths, since) is not None
    return trie.change([target], clock.wall_ms()), is_fresh


def delete(engine: Engine, key: str) -> Steps[bool]:
    """Drop a key everywhere; whether a valid entry was there.

    Raises:
        Busy, StorageError: it could not be done, or not in the store.
        ServerRefused: as `tell`.
    """
    digest = keys.digest(key)
    entry = engine.lives.get(key)
    there = entry is not None and engine.lives.recheck(entry)
    if entry is not None:
        engine.lives.drop(entry)
    engine.flights.overtake(key)
    near = engine.near
    if engine.far is not None:
        try:
            there = bool((yield from engine.ask("delete", digest, clock.now()))) or there
        except ZooCacheError:  # what is live goes all the same, and what is there is overtaken as soon as can be
            yield from _overtake_everywhere(engine, digest)
            raise
    elif near is not None:
        there = (yield from patiently(lambda: near.delete(digest, clock.now()))) or there
    yield from _overtake_everywhere(engine, digest)
    return there


def _overtake_everywhere(engine: Engine, digest: bytes) -> Steps[None]:
    hosts = engine.hosts
    if hosts is None:
        yield from patiently(lambda: overtake_key(engine, digest))
    else:
        target = (*words_of(digest), b"")
        yield from tell(engine, hosts, lambda trie: hosts.message(trie, digests=(digest,)), [target], [digest])


def clear(engine: Engine) -> Steps[None]:
    """Drop all entries and reset the trie, in every process of the host, and of the other hosts; raises as `delete`."""
    engine.flights.overtake_all()
    if engine.near is not None:
        yield from patiently(engine.near.clear)
    hosts = engine.hosts
    try:
        if hosts is None:
            yield from patiently(lambda: engine.on_segment(lambda trie: trie.clear(clock.wall_ms())))
        else:
            yield from tell(engine, hosts, lambda trie: hosts.message(trie, "clear"), (), ())
    finally:
        engine.lives.clear()
    if engine.far is not None:
        yield from engine.ask("clear")


def prune(engine: Engine, older_than_ms: int) -> Steps[int]:
    """Drop what was last invalidated longer ago, in trie and store, on every host; how many nodes of this trie."""
    moment, near = clock.now(), engine.near
    dropped: int = yield from patiently(
        lambda: engine.on_segment(lambda trie: trie.prune(older_than_ms, moment.wall_ms))
    )
    hosts = engine.hosts
    if hosts is not None:
        yield from tell(engine, hosts, lambda trie: hosts.message(trie, "prune", older_than_ms=older_than_ms), (), ())
    if engine.far is not None:
        yield from engine.ask("prune", older_than_ms, moment)
    elif near is not None:
        yield from patiently(lambda: near.prune(older_than_ms, moment))
    engine.lives.expire()
    return dropped
