"""What children of the tests of the LMDB store do: write and be killed, fork, read, meet damage."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.children import DEADLINE_S
from tests.storage.steps import PATIENT_S, START, after, body, hashed, living, save, store_at, works
from zoocache.errors import StorageError
from zoocache.storage import Store
from zoocache.storage.lmdb import LmdbStore


def write(path: str, what: str) -> None:
    """In a child: one write, in which it may be killed or stopped."""
    store = store_at(Path(path))
    if what in {"save", "first"}:
        save(store, "k", "t", body=b"new")
    elif what == "anew":
        save(store, "k", "t", body=b"new", anew=True)
    elif what == "invalidate":
        store.invalidate([hashed("t")], START)
    elif what == "delete":
        store.delete(hashed("k"), START)
    elif what == "touch":
        store.touch([hashed("k")], after(900), wait=True)
    elif what == "prune":
        store.prune(0, after(10))
    elif what == "clear":
        store.clear()
    print("done")


def read(path: str, key: str) -> None:
    """In a child: one load, as a process that comes anew."""
    print(body(store_at(Path(path)), key))


def fork_and(work: Callable[[], None]) -> int:
    """Fork, work in the child, end it as a program ends; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        sys.stdout.flush()
    sys.exit(0)


def reap(pid: int) -> None:
    """Wait for a forked child; it must end well."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert 0 == os.waitstatus_to_exitcode(status)
            return
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("a forked child did not end")
        time.sleep(0.005)


def family(path: str, told: bool) -> None:
    """In a child: use a store, fork children and grandchildren that use it too, and go on using it."""
    store = store_at(Path(path))
    save(store, "parent", "t")
    assert b"parent" == body(store, "parent")

    def grandchild() -> None:
        if told:
            store.after_fork()
        assert b"child" == body(store, "child")
        assert save(store, "grandchild", "t")

    def child() -> None:
        if told:
            store.after_fork()
        assert b"parent" == body(store, "parent")
        assert save(store, "child", "t")
        reap(fork_and(grandchild))
        assert b"grandchild" == body(store, "grandchild")
        store.invalidate([hashed("t")], START)
        store.close()
        assert None is body(store, "parent")

    for turn in range(3):
        pid = fork_and(child)
        assert save(store, "meanwhile")
        reap(pid)
        assert [None, None, b"meanwhile"] == [body(store, key) for key in ("parent", "child", "meanwhile")]
        assert save(store, "parent", "t"), turn
    print("done")


def orphan_maker(path: str) -> None:
    """In a child: fork while a thread holds the write lock, and end as by a kill; the grandchild lives on."""
    store = store_at(Path(path))
    save(store, "k")
    inside = threading.Event()

    def stay() -> None:
        inside.set()
        time.sleep(DEADLINE_S)

    lock = store._access.here().lock
    threading.Thread(target=lock.run, args=(stay,), daemon=True).start()
    assert inside.wait(DEADLINE_S)
    if os.fork() == 0:
        store.after_fork()
        print("forked", flush=True)
        time.sleep(DEADLINE_S)
    signal.pause()


def reader_of_forker(path: str) -> None:
    """In a child: threads that read while the main thread forks children, which end in the ordinary way."""
    store = LmdbStore(path, map_size=1 << 26, timeout_s=PATIENT_S)
    keys = [f"k{index}" for index in range(50)]
    for key in keys:
        save(store, key, body=key.encode() * 500)
    over = threading.Event()
    wrong: list[str] = []

    def look() -> None:
        while not over.is_set():
            wrong.extend(key for key in keys if not (body(store, key) or b"").startswith(key.encode()))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(6):
        pid = fork_and(store.after_fork)
        for key in keys:
            save(store, key, body=key.encode() * (400 + turn))
        reap(pid)
    over.set()
    for reader in readers:
        reader.join()
    assert [] == wrong
    print("done")


def is_lost(store: Store, key: str) -> bool:
    """Whether a key is a miss, or cannot be read."""
    try:
        return body(store, key) is None
    except StorageError:
        return True


def use_scribbled(path: str) -> None:
    """In a child: go on using a store whose file somebody overwrites."""
    store = store_at(Path(path))
    for index in range(300):
        save(store, f"k{index}", body=bytes(300))
    for name in ("entries.mdb", "numbers.mdb"):
        with (living(Path(path)) / name).open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * 400_000)
    assert sum(is_lost(store, f"k{index}") for index in range(300)) > 250
    assert works(store)
    print("done")


def slot_keeper(path: str) -> None:
    """In a child: look at LMDB's table of readers before and after a forked child has ended in the ordinary way."""
    store = store_at(Path(path))
    save(store, "k")
    assert b"k" == body(store, "k")
    tables = (store._access.here().entries, store._access.here().numbers)
    before = [table.env.readers() for table in tables]
    assert all(str(os.getpid()) in each for each in before)
    reap(fork_and(lambda: save(store, "l")))
    assert before == [table.env.readers() for table in tables]
    print("done")


class Interrupted(Exception):
    """What the signal handler raises."""


def interrupted(path: str, interval_s: float) -> None:
    """In a child: write while a handler raises all the time, and look whether others still can, while it is caught."""
    store = store_at(Path(path))
    stamp = store.stamp()
    armed: list[bool] = []
    written: list[bool] = []

    def interrupt(_signal: int, _frame: object) -> None:
        if armed:
            armed.clear()
            raise Interrupted

    def save_until_interrupted() -> None:
        armed.append(True)
        for _ in range(5000):
            save(store, "k", "t", stamp=stamp)
        armed.clear()

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, interval_s, interval_s)
    caught = 0
    began = time.monotonic()
    while time.monotonic() - began < 2 or caught <= 50:
        assert time.monotonic() - began < DEADLINE_S, caught
        try:
            save_until_interrupted()
        except Interrupted:  # whose traceback still holds the frames that were interrupted
            caught += 1
            if caught % 50 == 0:
                thread = threading.Thread(target=lambda: written.append(save(store, "elsewhere")))
                thread.start()
                thread.join(DEADLINE_S)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert caught // 50 == len(written)
    assert all(written)
    assert works(store)
    print("done")
