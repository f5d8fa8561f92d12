"""zoocache/listener: one process a host, started by need, replaced when it is killed, gone when nobody is there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, ROOT, Children
from tests.crowd import Gate, Runner, until
from tests.forks import Forks
from tests.listener.conftest import Used, end_listeners, is_alive, keeper_of
from tests.logs import said
from tests.proxy import Proxy
from tests.servers import Servers
from tests.shared_memory import objects_of
from zoocache import clock, deps
from zoocache.config import Settings
from zoocache.errors import ServerRefused
from zoocache.listener import process, starter
from zoocache.server.names import names_of
from zoocache.shm.attachment import attach, private
from zoocache.shm.layout import C_LEASED, H_CAUGHT_UP, H_LISTENER_MS, H_LISTENER_PID, H_OUT_TAIL, H_REFUSED
from zoocache.shm.segment import Segment
from zoocache.storage import FOREVER
from zoocache.storage.lmdb import LmdbStore
from zoocache.trie import Trie

MakeUsed = Callable[..., Used]


def cross(one: Used, other: Used, tag: str = "a") -> None:
    """An invalidation reaches the other host."""
    since = other.seq()
    one.tell(tag)
    until(lambda: other.stale(since, tag))


# Being there.


def test_an_invalidation_crosses_hosts(used: MakeUsed) -> None:
    """What one host invalidates is stale on the other without anybody's doing, both ways."""
    one, other = used("one"), used("other")
    one.listened()
    other.listened()
    cross(one, other)
    cross(other, one, "b")


@pytest.mark.parametrize("who", ["a user", "a listener"])
def test_who_looks_for_a_listener_that_is_just_coming(
    who: str, used: MakeUsed, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """What a listener says that has come and caught up right behind somebody's look for one is not taken back."""
    one, looks = used(), count()
    segment = one.trie.segment

    def has_listener(_: Segment) -> bool:
        if next(looks):
            return True
        segment.words[H_CAUGHT_UP] = 1
        return False

    monkeypatch.setattr(Segment, "has_listener", has_listener)
    if who == "a user":
        one.starter.ensure(one.trie)
    else:
        process._becomes_listener(segment)
    assert 1 == segment.words[H_CAUGHT_UP]


def test_who_takes_a_turn_while_a_listener_comes(used: MakeUsed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is taken right when a listener comes, and gives its own back, is given back too."""
    segment, looks = used().trie.segment, count()
    monkeypatch.setattr(Segment, "has_listener", lambda _: next(looks) > 0)
    assert (False, 0) == (starter._take_turn(segment, clock.up_ms()), segment.words[H_LISTENER_MS])


def test_nobody_listens_and_somebody_writes(used: MakeUsed) -> None:
    """Where nobody listens that is found also while another holds the lock."""
    segment, gate = used().trie.segment, Gate()
    segment.words[H_CAUGHT_UP] = 1
    writer = Runner(segment.write, gate.stop)
    gate.wait_inside()
    starter.take_back(segment)
    assert 0 == segment.words[H_CAUGHT_UP]
    gate.open()
    writer.result()


def test_there_is_one(used: MakeUsed) -> None:
    """However many processes want one, there is one listener a host, and it is nobody's child."""
    crowd = [used() for _ in range(4)]
    for each in crowd:
        starter.start(each.settings)
    pids = {each.listened() for each in crowd}
    assert 1 == len(pids)
    parent = Path(f"/proc/{pids.pop()}/stat").read_text().rpartition(")")[2].split()[1]
    assert str(os.getpid()) != parent
    until(_reaped_all)


def _reaped_all() -> bool:
    """Whether this process has no children that are over."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return True


def test_starting_leaves_no_child_behind(children: Children, redis_url: str) -> None:
    """A user's process has no child and no zombie of ours, soon after, and ends without waiting."""
    child = children.call(start_and_look, redis_url)
    assert "no child" == child.wait_for("no")
    child.output()


def test_who_starts_next_reaps_for_who_is_gone(children: Children, redis_url: str) -> None:
    """An engine that is closed before what it has begun has ended leaves no zombie for good."""
    child = children.call(start_and_look, redis_url, 3)
    assert "no child" == child.wait_for("no")
    child.output()


def start_and_look(url: str, gone: int = 0) -> None:
    """In a child: use a host, after others that only began a listener; then look for children of this process."""
    settings = Settings(prefix=os.environ["ZOOCACHE_PREFIX"], bus_url=url)
    for _ in range(gone):
        other = Used(settings)
        starter.start(other.settings)
        other.leave()
    one = Used(settings)
    one.listened()
    until(lambda: one.ensure() and has_no_child())
    print("no child")
    one.leave()
    remove(one)


def has_no_child() -> bool:
    """Whether this process has none, not even one that has ended; nothing is reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def remove(one: Used) -> None:
    """Remove the objects of a host that this process used, and wait for its listener to end."""
    for path in objects_of(one.settings.prefix or ""):
        path.unlink(missing_ok=True)
    until(lambda: not any(map(is_alive, one.pids)))


def test_it_holds_nothing_of_the_one_who_started_it(used: MakeUsed, tmp_path: Path) -> None:
    """No descriptor, directory, terminal, session, environment or import flag of the user's process goes along."""
    file = (tmp_path / "kept").open("w")
    os.set_inheritable(file.fileno(), True)
    os.environ["A_SECRET"] = "sesame"
    one = used()
    pid = one.listened()
    del os.environ["A_SECRET"]
    opened = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile: it has opened that itself
            opened.add(os.readlink(fd))
    file.close()
    assert str(tmp_path / "kept") not in opened
    assert not any(name.startswith("pipe:") for name in opened)
    assert os.devnull in opened
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert keeper_of(pid) == os.getsid(pid) != os.getsid(0)
    told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"sesame" not in told
    assert b"ZOOCACHE_" not in told
    assert (one.settings.server_url or "").encode() not in told


def test_a_parent_whose_standard_streams_are_closed(used: MakeUsed, children: Children, redis_url: str) -> None:
    """Whoever reads a user's output reads its end when the user ends, listener or not; closed streams do not matter."""
    stays = used(None)  # the listener outlives the child: who waited for its end would wait for ever
    assert 0 == children.call(start_without_streams, redis_url).wait()
    assert stays.trie.segment.has_listener()


def start_without_streams(url: str) -> None:
    """In a child: start a listener with descriptors 0 to 2 closed, and leave it."""
    prefix = os.environ["ZOOCACHE_PREFIX"]
    for fd in (0, 1, 2):
        os.close(fd)
    one = Used(Settings(prefix=prefix, bus_url=url))
    one.listened()
    one.leave()


def test_pipes_are_not_kept_open(used: MakeUsed, prefix: str, redis_url: str) -> None:
    """`subprocess.run` with captured output returns when the program ends, not when its listener does."""
    used(None)  # somebody stays on that host, and so does the listener
    code = (
        "import sys; from tests.listener.conftest import Used; from zoocache.config import Settings\n"
        "one = Used(Settings(prefix=sys.argv[1], bus_url=sys.argv[2])); one.listened(); print(one.pid); one.leave()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, prefix, redis_url], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert is_alive(int(run.stdout))


def test_a_current_directory_that_is_gone(children: Children, redis_url: str, tmp_path: Path) -> None:
    """A process whose directory was removed under it has a listener all the same."""
    child = children.call(start_from_nowhere, redis_url, str(tmp_path / "gone"))
    assert child.wait_for("pid").split()[1] != "0"
    child.output()


def start_from_nowhere(url: str, directory: str) -> None:
    """In a child: remove the current directory, and start a listener."""
    os.mkdir(directory)
    os.chdir(directory)
    os.rmdir(directory)
    one = Used(Settings(prefix=os.environ["ZOOCACHE_PREFIX"], bus_url=url))
    print("pid", one.listened())
    one.leave()
    remove(one)


def test_the_import_path_goes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The listener looks for modules where its parent does, wherever it stands itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", "/zip.zip"])
    found = list(starter.import_path())
    assert [str(tmp_path), str(tmp_path / "lib"), "/zip.zip"] == found[:3]
    assert str(ROOT) in found[3:]


# Leaving.


def serve(options: dict[str, object]) -> None:
    """In a child: what a process that was started does, with less patience."""
    process.LINGER_S = 0.3
    process.run_detached(options)


def test_it_leaves_when_nobody_is_left(used: MakeUsed, children: Children) -> None:
    """Some time after the last process has gone the listener goes too, and removes nothing."""
    one = used()
    child = children.call(serve, one.settings._asdict())
    until(lambda: one.pid == child.pid)
    time.sleep(0.6)
    assert one.trie.segment.has_listener()
    one.trie.segment.leave()
    assert 0 == child.wait()
    assert objects_of(one.settings.prefix or "")


def test_it_stays_while_something_is_to_be_sent(used: MakeUsed, servers: Servers, children: Children) -> None:
    """What the last process said before it went is sent, though the server comes back only later."""
    server = servers.start()
    one = used("one", server.url)
    child = children.call(serve, one.settings._asdict())
    until(lambda: one.pid == child.pid)
    server.kill()
    end, words = one.tell("a"), one.trie.words
    one.trie.segment.leave()
    time.sleep(0.6)
    assert is_alive(child.pid)
    server.start()
    assert 0 == child.wait()
    assert end <= words[H_OUT_TAIL]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: int, used: MakeUsed) -> None:
    """SIGTERM ends it in order, and the next who looks starts another."""
    one = used()
    pid = one.listened()
    os.kill(pid, number)
    until(lambda: not is_alive(pid))
    assert pid != one.trie.words[H_LISTENER_PID], "it took its number back; a second one may have been on its way"
    until(lambda: one.listened() != pid)


def test_it_is_killed_where_nobody_looks(used: MakeUsed) -> None:
    """Another one comes although nobody on the host uses the cache: what stands in the outbox is sent."""
    one, other = used("one"), used("other")
    pid = one.listened()
    other.listened()
    since = other.seq()
    os.kill(pid, signal.SIGKILL)
    one.tell("a")
    until(lambda: one.pid not in {0, pid})
    until(lambda: other.stale(since, "a"))


def test_it_is_killed_when_it_has_just_come(used: MakeUsed, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds nobody then, and never looks again, has begun another, however lately the first one was begun."""
    monkeypatch.setattr(starter, "TURN_MS", 3_600_000)
    one = used()
    one.listened()
    end_listeners(prefix)
    assert not one.ensure()
    until(one.trie.segment.has_listener)


def test_it_came_since_somebody_looked(used: MakeUsed) -> None:
    """Who found no listener, and takes his turn when there is one, begins none, and leaves the turn to the next."""
    one = used()
    assert not one.ensure()
    segment = one.trie.segment
    until(lambda: segment.has_listener() and one.hosts.has_caught_up(one.trie))  # nobody begins a second one
    assert not segment.write(starter._take_turn, segment, clock.up_ms())
    assert 0 == segment.words[H_LISTENER_MS]


def test_its_follower_has_caught_up_with_nothing(used: MakeUsed, prefix: str, servers: Servers) -> None:
    """What a killed listener had heard does not make anybody believe that its successor has."""
    server = servers.start()
    one = used("one", server.url)
    one.listened()
    end_listeners(prefix)
    one.trie.words[H_CAUGHT_UP] = 1  # as it left it; one that was on its way may have taken it back before its end
    server.freeze()
    os.waitpid(starter.start(one.settings), 0)
    until(one.trie.segment.has_listener)
    assert 0 == one.trie.words[H_CAUGHT_UP]
    server.thaw()
    until(lambda: one.trie.words[H_CAUGHT_UP])


def test_its_keeper_is_killed(used: MakeUsed) -> None:
    """It goes on; if it is killed too, the next who looks starts another."""
    one = used()
    pid = one.listened()
    os.kill(keeper_of(pid), signal.SIGKILL)
    until(lambda: keeper_of(pid) == 1)
    assert (True, pid) == (one.ensure(), one.pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    until(lambda: one.listened() != pid)


def test_its_keeper_passes_a_signal_on(used: MakeUsed) -> None:
    """SIGTERM to the keeper ends both in order."""
    one = used()
    pid = one.listened()
    keeper = keeper_of(pid)
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not is_alive(pid) and not is_alive(keeper))
    assert pid != one.trie.words[H_LISTENER_PID]


def test_the_segment_is_removed_under_it(used: MakeUsed) -> None:
    """It goes with its segment; who attaches anew has a new one."""
    one = used()
    pid = one.listened()
    for path in objects_of(one.settings.prefix or ""):
        path.unlink()
    until(lambda: not is_alive(pid))
    again = used()
    assert pid != again.listened()


def test_what_stood_in_a_removed_segment_is_sent(used: MakeUsed, servers: Servers) -> None:
    """An invalidation that was to be sent when somebody removed the segment reaches the other hosts."""
    server = servers.start()
    one, other = used("one", server.url), used("other", server.url)
    pid = one.listened()
    other.listened()
    since = other.seq()
    server.freeze()
    one.tell("a")
    for path in objects_of(one.settings.prefix or ""):
        if "@one-" in path.name:
            path.unlink()
    time.sleep(2 * process.STEP_S)
    server.thaw()
    until(lambda: other.stale(since, "a"))
    until(lambda: not is_alive(pid))


def test_nothing_to_serve(prefix: str, redis_url: str) -> None:
    """Started for a segment that is gone by then, it makes none, and leaves."""
    process.run_detached(Settings(prefix=prefix, bus_url=redis_url)._asdict())
    assert [] == objects_of(prefix)


def test_signals_are_given_back(prefix: str, redis_url: str) -> None:
    """Who listened in a program of his own has his own handlers afterwards, and so has what he forks."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    process.run_detached(Settings(prefix=prefix, bus_url=redis_url)._asdict())
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


# Trouble.


def test_it_is_killed(used: MakeUsed) -> None:
    """One that was killed with its keeper is replaced by the next who looks, and nothing is lost in between."""
    one, other = used("one"), used("other")
    pid = one.listened()
    other.listened()
    os.kill(keeper_of(pid), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    since = other.seq()
    one.tell("a")
    until(lambda: one.listened() != pid)
    until(lambda: other.stale(since, "a"))


def test_it_is_killed_while_others_speak(used: MakeUsed) -> None:
    """What others say while there is no listener is heard by the next one."""
    one, other = used("one"), used("other")
    one.listened()
    pid = other.listened()
    os.kill(keeper_of(pid), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    since = other.seq()
    end = one.tell("a")
    until(lambda: one.is_sent(end))
    until(lambda: other.listened() != pid)
    until(lambda: other.stale(since, "a"))
    assert not other.stale(since, "b")


def test_it_stands_still(used: MakeUsed) -> None:
    """A stopped listener is not replaced; the host falls behind, and catches up when it goes on."""
    one, other = used("one"), used("other")
    one.listened()
    pid = other.listened()
    os.kill(pid, signal.SIGSTOP)
    since = other.seq()
    end = one.tell("a")
    until(lambda: one.is_sent(end))
    lag_ms = other.hosts.lag_ms(other.trie, clock.up_ms())
    assert other.ensure()
    until(lambda: other.hosts.lag_ms(other.trie, clock.up_ms()) > lag_ms)
    assert (pid, False) == (other.pid, other.stale(since, "a"))
    os.kill(pid, signal.SIGCONT)
    until(lambda: other.stale(since, "a"))


def test_the_server_is_not_there_yet(used: MakeUsed, servers: Servers) -> None:
    """A listener that finds no server waits for it."""
    server = servers.start()
    server.kill()
    one, other = used("one", server.url), used("other", server.url)
    for each in (one, other):
        until(each.ensure)
    one.tell("a")
    server.start()
    one.listened()
    other.listened()
    cross(one, other, "b")


def test_the_server_restarts_empty(used: MakeUsed, servers: Servers) -> None:
    """A server that lost everything makes everything stale on every host, once, and serves them on."""
    server = servers.start()
    one, other = used("one", server.url), used("other", server.url)
    one.listened()
    other.listened()
    moments = one.seq(), other.seq()
    server.kill()
    server.start()
    until(lambda: one.stale(moments[0], "x") and other.stale(moments[1], "x"))
    cross(one, other)


def test_a_network_that_swallows_everything(used: MakeUsed, servers: Servers, children: Children) -> None:
    """A host that was cut off without a word hears what it missed once the network is back."""
    server = servers.start()
    proxy = Proxy(children, server.path)
    one, other = used("one", server.url), used("other", proxy.url)
    one.listened()
    other.listened()
    proxy.drop()
    since = other.seq()
    end = one.tell("a")
    until(lambda: one.is_sent(end))
    away = other.tell("b")
    beat_ms = other.hosts.lag_ms(other.trie, clock.up_ms())
    until(lambda: other.hosts.lag_ms(other.trie, clock.up_ms()) > max(2000, beat_ms))
    assert (False, False) == (other.stale(since, "a"), other.is_sent(away))
    since_one = one.seq()
    proxy.heal()
    until(lambda: other.stale(since, "a") and one.stale(since_one, "b"))


def test_who_may_not_listen_asks(used: MakeUsed, servers: Servers) -> None:
    """Where the channel is closed to this user, its hosts hear about a second later."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "shy", "on", ">sesame", "~*", "+@all", "resetchannels", "-subscribe")
    one, other = used("one", server.url), used("other", f"unix://shy:sesame@{server.path}")
    one.listened()
    other.listened()
    cross(one, other)


def test_an_editable_install(children: Children, redis_url: str, tmp_path: Path) -> None:
    """A library that an import hook finds, and no entry of the import path leads to, is found by the listener too."""
    code = f"""
        import os, sys
        root = {str(ROOT)!r}
        sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != root]
        import importlib.util
        spec = importlib.util.spec_from_file_location("zoocache", root + "/zoocache/__init__.py",
                                                      submodule_search_locations=[root + "/zoocache"])
        sys.modules["zoocache"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        from zoocache.config import Settings
        from zoocache.listener import starter
        from zoocache.shm.attachment import attach
        import time
        settings = Settings(prefix=os.environ["ZOOCACHE_PREFIX"], bus_url=sys.argv[1])
        segment = attach(settings.prefix)
        os.waitpid(starter.start(settings), 0)
        while not segment.has_listener():
            time.sleep(0.01)
        print("there")
    """
    child = children.code(code, redis_url, env={"PYTHONPATH": ""}, cwd=tmp_path)
    child.wait_for("there")
    child.output()


def test_garbage_on_the_channel(used: MakeUsed) -> None:
    """Whoever writes into the channel stops nobody."""
    one, other = used("one"), used("other")
    one.listened()
    pid = other.listened()
    link = one._link
    for text in (b"", b"x" * 3_000_000, b"\xff" * 100, b"0123456789abcdef 18446744073709551615 " + bytes(50)):
        link.command("PUBLISH", names_of(one.settings.prefix or "").channel, text)
    cross(one, other)
    assert pid == other.pid


def test_its_store_hears(used: MakeUsed, tmp_path: Path) -> None:
    """With LMDB the listener overtakes what lies there too."""
    one, other = used("one"), used("other", storage_url=f"lmdb://{tmp_path}")
    one.listened()
    other.listened()
    store = LmdbStore(tmp_path, prefix=other.settings.prefix or "")
    digest = bytes(16)
    assert store.save(digest, deps.paths("a"), store.stamp(), b"x", FOREVER, clock.now())
    cross(one, other)
    assert store.load(digest, clock.now()) is None
    store.close()


def test_leases_are_renewed(used: MakeUsed, redis_url: str) -> None:
    """The lease of a flight stands for as long as its leader lives and computes, with a bus and without one."""
    one = used(storage_url=redis_url, bus_url=None)
    until(one.ensure)
    segment, names, link = one.trie.segment, names_of(one.settings.prefix or ""), one._link
    claim, _ = segment.write(segment.claims.lead, 1, 2, clock.up_ms())
    assert claim is not None
    token = segment.claims.lease(claim)
    digest, _ = segment.claims.leased()[0]
    for _ in range(4):  # far longer than a renewal makes it: what is shorter was renewed, however late we look
        link.command("SET", names.lease(digest), token, "PX", 3_600_000)
        until(lambda: _left_ms(one, digest) <= process.LEASE_MS)
        assert segment.words[claim.at + C_LEASED]
    assert process.LEASE_MS >= 3 * 1000 * process.RENEW_S
    segment.claims.end(claim)
    until(lambda: _left_ms(one, digest) < 0)


def test_it_is_there_before_the_first_fill_is_over(children: Children, redis_url: str) -> None:
    """The first cached call of a host has its listener started before it computes, so that the lease of a long first
    fill is renewed."""
    child = children.code(
        """
        import sys, time, zoocache
        from zoocache import runtime

        zoocache.configure(storage_url=sys.argv[1], host_id="one")

        @zoocache.cacheable()
        def seen():
            until_s = time.monotonic() + float(sys.argv[2])
            while not runtime.engine().trie.segment.has_listener() and time.monotonic() < until_s:
                time.sleep(0.01)
            return runtime.engine().trie.segment.has_listener()

        print(seen(), flush=True)
        """,
        redis_url, str(DEADLINE_S / 2),
    )  # fmt: skip
    assert "True" == child.line()


def _left_ms(one: Used, digest: bytes) -> int:
    return int(one._link.command("PTTL", names_of(one.settings.prefix or "").lease(digest)))  # type: ignore[arg-type]


# Where none can be started.


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/nowhere/python3"])
def test_no_interpreter(
    executable: str, used: MakeUsed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no Python can be found one warning says so, and the process sends and hears in passing."""
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    one, other = used("one"), used("other")
    for each in (one, other, one, other):
        assert not each.ensure()
    assert ["cannot be started" in record.message for record in said(caplog)] == [True, True]
    since = other.seq()
    end = one.tell("a")
    assert (False, False) == (one.ensure(), other.ensure())
    assert (True, True) == (one.is_sent(end), other.stale(since, "a"))


def test_a_refusal_ends_with_the_first_answer(used: MakeUsed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server refused a listener that was killed counts no more where users send and hear by themselves."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    one = used()
    assert not one.ensure()
    one.trie.words[H_REFUSED] = 1
    with pytest.raises(ServerRefused):
        one.hosts.insist(one.trie)
    assert not one.ensure()
    one.hosts.insist(one.trie)


def test_a_frozen_program(used: MakeUsed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A frozen program is not started a second time in place of Python."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not used().ensure()
    assert "frozen" in caplog.text


def test_one_that_dies_at_once(
    used: MakeUsed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A listener that is started and never there is given up after a while, with one warning, and done without."""
    program = tmp_path / "dies.py"
    program.write_text("raise SystemExit(7)")
    monkeypatch.setattr(starter, "PROGRAM", str(program))
    monkeypatch.setattr(starter, "STARTING_MS", 50)
    one, other = used("one"), used("other")
    until(lambda: one.ensure() or "is not there" in caplog.text)
    end = one.tell("a")
    until(lambda: one.ensure() or one.is_sent(end))
    assert 1 == len(said(caplog))
    assert not other.trie.segment.has_listener()


def test_a_private_segment(redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no shared memory there is no listener, and no second warning; what is said is sent in passing."""
    one = Used(Settings(prefix=prefix, bus_url=redis_url))
    shared = one.trie.segment
    one.trie = Trie(private("/none", 1 << 18))
    caplog.clear()
    end = one.tell("a")
    until(lambda: one.ensure() or one.is_sent(end))
    assert ([], False) == (said(caplog), shared.has_listener())
    one.trie.segment.leave()
    shared.leave()
    one._link.close()


def test_a_listener_that_came_and_was_killed_long_after(
    used: MakeUsed, prefix: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks again only when it is gone has not failed to start one: the next one is begun at once."""
    monkeypatch.setattr(starter, "STARTING_MS", 1000 * DEADLINE_S)  # the next one may take long to come
    one = used()
    assert not one.ensure()
    until(lambda: one.trie.segment.has_listener() and one.hosts.has_caught_up(one.trie))
    end_listeners(prefix)
    one.starter._started_ms = clock.up_ms() - 2 * starter.STARTING_MS
    until(one.ensure)
    assert [] == said(caplog)


def test_processes_take_turns(used: MakeUsed) -> None:
    """Of many processes that find no listener at the same moment one starts one."""
    one = used()
    segment = one.trie.segment
    taken = [segment.write(starter._take_turn, segment, now_ms) for now_ms in (5000, 5000, 5999, 6000, 6001)]
    assert [True, False, False, True, False] == taken
    assert segment.write(starter._take_turn, segment, 3)


def test_the_machine_has_just_started(used: MakeUsed) -> None:
    """Nobody has begun to start a listener yet, though that would not have been long ago."""
    segment = used().trie.segment
    assert [True, False] == [segment.write(starter._take_turn, segment, 3) for _ in range(2)]


def test_a_forked_child_reaps_nobody(used: MakeUsed, forks: Forks) -> None:
    """Who was forked after a start has no child to wait for, and starts and asks as anybody does."""
    one = used()
    one.starter._try(1)

    def ask() -> None:
        one.trie.segment.after_fork()
        until(one.ensure)

    assert 0 == forks.fork(ask).wait()
    one.listened()


# In the foreground.


def run_in_front(url: str) -> None:
    """In a child: a listener in the foreground."""
    logging.basicConfig(level=logging.INFO)
    print("up", flush=True)
    process.run(Settings(prefix=os.environ["ZOOCACHE_PREFIX"], bus_url=url))
    print("done", flush=True)


def test_in_the_foreground(used: MakeUsed, children: Children, redis_url: str) -> None:
    """It serves before anybody is there, and ends in order when it is told to."""
    child = children.call(run_in_front, redis_url)
    child.wait_for("up")
    one = used(None)
    until(lambda: one.pid == child.pid and one.ensure())
    other = used("other")
    other.listened()
    cross(one, other)
    child.process.send_signal(signal.SIGTERM)
    assert "done\n" == child.output()


def test_it_waits_for_its_turn(used: MakeUsed, children: Children, redis_url: str, prefix: str) -> None:
    """Where another listens it waits, and takes its place when that dies, and its keeper."""
    one = used(None)
    one.listened()
    child = children.call(run_in_front, redis_url)
    child.wait_for("up")
    assert one.ensure()
    end_listeners(prefix)  # also one that took long to come, was begun again meanwhile, and waits to be the first
    until(lambda: one.pid == child.pid)
    child.process.send_signal(signal.SIGINT)
    child.wait_for("done")


def test_it_outlives_its_segment(used: MakeUsed, children: Children, redis_url: str) -> None:
    """In the foreground it serves the segment that takes a removed one's place."""
    child = children.call(run_in_front, redis_url)
    child.wait_for("up")
    one = used(None)
    until(lambda: one.pid == child.pid)
    for path in objects_of(one.settings.prefix or ""):
        path.unlink()
    again = attach(one.settings.prefix or "")
    until(again.has_listener)
    until(lambda: again.words[H_LISTENER_PID] == child.pid)
    again.leave()
    child.process.send_signal(signal.SIGTERM)
    child.output()
