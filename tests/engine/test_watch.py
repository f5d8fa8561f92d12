"""Whether a host hears the others, as a process of it sees that; what follows from it stands in test_far_hosts.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import until
from tests.engine.peopled import MakeHost
from tests.listener.conftest import end_listeners
from tests.proxy import Proxy
from tests.servers import Servers
from tests.shared_memory import remove_objects
from zoocache import cacheable, configure, invalidate, runtime
from zoocache.engine import watch
from zoocache.listener import starter
from zoocache.shm.layout import H_BEAT_MS, H_CAUGHT_UP, H_REFUSED
from zoocache.trie import Trie


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of silence."""
    return [record.getMessage() for record in caplog.records if "hears nothing" in record.getMessage()]


def call_until(condition: Callable[[], object]) -> None:
    """Use the cache until it holds."""
    get = cacheable(lambda: 1)
    until(lambda: 1 == get() and condition())


@pytest.mark.parametrize("trouble", ["out of reach", "refuses user or password"])
def test_a_host_that_hears_nothing_says_so(
    trouble: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who only reads is warned too, once, by name and without a secret, of a bus that is not there or refuses."""
    monkeypatch.setattr(watch, "WATCH_S", 0.05)
    monkeypatch.setattr(watch, "SILENT_MS", 3_600_000)  # until it is known why: a listener may take long to come
    url = f"unix://{tmp_path / 'nobody'}"
    if trouble != "out of reach":
        server = servers.start("--requirepass", "right")
        url = server.url.replace("unix://", "unix://:sesame@")
    configure(bus_url=url)
    if trouble != "out of reach":
        call_until(lambda: runtime.engine().trie.words[H_REFUSED])
    monkeypatch.setattr(watch, "SILENT_MS", 1000)
    call_until(lambda: told(caplog))
    end_s = time.monotonic() + 1
    call_until(lambda: time.monotonic() > end_s)
    (message,) = told(caplog)
    assert trouble in message
    assert "sesame" not in caplog.text


def test_a_host_that_hears_is_silent(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing is wrong nothing is said; and a second silence is told of again."""
    monkeypatch.setattr(watch, "WATCH_S", 0.05)
    server = servers.start()
    configure(bus_url=server.url, max_bus_lag=0.2)
    looker = runtime.engine()._watch
    assert looker is not None
    call_until(lambda: looker._was_heard and not looker._deaf_ms)
    caplog.clear()  # it may have taken long to come
    end_s = time.monotonic() + 1
    call_until(lambda: time.monotonic() > end_s)
    assert [] == told(caplog)
    monkeypatch.setattr(watch, "SILENT_MS", 1000)
    for _ in range(2):
        server.freeze()
        call_until(lambda: told(caplog))
        assert 1 == len(told(caplog))
        server.thaw()
        call_until(lambda: not looker._deaf_ms)  # the listener has found out, by its own breaker
        caplog.clear()


def test_a_new_segment_is_looked_at_anew(redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the removed one had a listener a moment ago says nothing of who sends what is left in its successor."""
    monkeypatch.setattr(watch, "SERVED_S", 3600.0)
    monkeypatch.setattr(watch, "WATCH_S", 3600.0)
    configure(bus_url=redis_url)
    invalidate("a")
    removed = runtime.engine().trie.segment
    until(removed.has_listener)
    invalidate("a")
    remove_objects(prefix)
    invalidate("a")
    segment = runtime.engine().trie.segment
    assert removed is not segment
    until(lambda: segment.has_listener() and segment.outbox.is_empty())


def test_who_looks_in_the_middle_of_a_look(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread that looks while another, which has found that nobody listened, drops what is live, finds it too."""
    monkeypatch.setattr(watch, "WATCH_S", 0.05)
    configure(bus_url=servers.start().url)
    engine = runtime.engine()
    looker = engine._watch
    assert looker is not None
    call_until(lambda: looker._was_heard)
    drop, believed = looker._lost, []

    def drop_late() -> None:
        """Nothing has been dropped when the other thread looks."""
        looker._lost = drop
        other = threading.Thread(target=lambda: believed.append(engine.watch()))
        other.start()
        other.join(DEADLINE_S)
        drop()

    (tmp_path / "nothing.py").touch()
    monkeypatch.setattr(starter, "PROGRAM", str(tmp_path / "nothing.py"))
    end_listeners(prefix)
    looker._lost = drop_late
    call_until(lambda: believed)
    assert [False] == believed


def test_a_first_catch_up_amid_a_look(prefix: str) -> None:
    """A listener that catches up between two steps of a look has not been lost."""
    steps, lost = count(), list[bool]()

    def lag_ms(_trie: Trie, up_ms: int) -> int:
        return 0 if next(steps) else up_ms

    hosts = SimpleNamespace(lag_ms=lag_ms, has_caught_up=lambda _trie: bool(next(steps)))
    looker = watch.Watch(hosts, lambda _trie: True, lambda: lost.append(True), 0)  # type: ignore[arg-type]
    looker._beat_ms -= 1000  # it was made a while ago
    assert looker.look(runtime.engine().trie)
    assert [] == lost


class Looked:
    """The words of a segment, for a writer; somebody looks after each store."""

    def __init__(self, words: memoryview, look: Callable[[], object]) -> None:
        self._words, self._look = words, look

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value
        self._look()


def test_a_look_amid_a_first_catch_up(host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has one that is looked at between two steps of its catch-up."""
    monkeypatch.setattr(watch, "WATCH_S", 0.0)
    one, lost = host("one"), list[bool]()
    looker = watch.Watch(one.hosts, lambda _trie: True, lambda: lost.append(True), 0)
    words = one.trie.words
    one.trie.words = Looked(words, lambda: looker.look(one.trie))  # type: ignore[assignment]
    one.listen()
    one.trie.words = words
    assert ([], True, True) == (lost, bool(words[H_CAUGHT_UP]), looker._was_heard)


def test_what_was_loaded_when_the_host_heard(host: MakeHost) -> None:
    """A listener that is killed before it notes its first beat was heard by who loaded meanwhile, without a look."""
    one, lost = host("one"), list[bool]()
    looker = watch.Watch(one.hosts, lambda _trie: True, lambda: lost.append(True), 0)
    assert looker.look(one.trie)
    one.trie.words[H_CAUGHT_UP] = 1
    assert looker.may_load(one.trie)
    one.trie.words[H_CAUGHT_UP] = 0  # as who finds no listener takes it back
    looker._next_s = 0.0
    assert (False, [True]) == (looker.look(one.trie), lost)


def test_a_host_that_heard_for_a_moment(servers: Servers, children: Children, prefix: str) -> None:
    """Who looked while the listener's first catch-up was under way finds out, too, that it died soon after that."""
    network = Proxy(children, servers.start().path)
    network.delay(100)
    configure(bus_url=network.url)
    engine = runtime.engine()
    looker, words = engine._watch, engine.trie.words
    assert looker is not None

    def look() -> int:
        looker._next_s = 0.0
        assert engine.watch()
        return words[H_CAUGHT_UP]

    until(lambda: look() and words[H_BEAT_MS])  # who dies before its first beat is the test above
    end_listeners(prefix)
    looker._next_s = 0.0
    assert not engine.watch()
