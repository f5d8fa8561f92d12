"""`zoocache.keys.tokens`: what tells instances apart that have no value."""

from __future__ import annotations

import gc
import threading

from tests.children import Children
from tests.specimens import Plain
from zoocache import keys
from zoocache.keys import tokens


def test_an_address_that_is_used_again_is_another_receiver() -> None:
    """A new instance at the address of a dead one has a token of its own, and the dead leave nothing behind."""
    gc.collect()
    before = len(tokens._held)
    addresses, seen = set(), set()
    for _ in range(1000):
        receiver = Plain()
        receiver.me = receiver if _ % 2 else None  # type: ignore[attr-defined]  # half of them die by the collector
        addresses.add(id(receiver))
        seen.add(keys.encode_self(receiver))
        del receiver
    gc.collect()
    assert 1000 == len(seen) > len(addresses)
    assert before == len(tokens._held)


def test_threads_agree_on_a_token() -> None:
    """Threads that meet an instance at the same time get one token."""
    receivers = [Plain() for _ in range(200)]
    barrier = threading.Barrier(4)
    found: list[list[str]] = []

    def meet() -> None:
        barrier.wait(60)
        found.append([keys.encode_self(receiver) for receiver in receivers])

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 4 == len(found)
    assert 1 == len({tuple(each) for each in found})


def test_tokens_survive_a_fork(children: Children) -> None:
    """A forked child knows the tokens of the instances that it inherited, and makes others for its own."""
    child = children.code("""
        import os
        from zoocache import keys
        class Plain: pass
        old = Plain()
        mine = keys.encode_self(old)
        read, write = os.pipe()
        if not (pid := os.fork()):
            os.write(write, (keys.encode_self(old) + " " + keys.encode_self(Plain())).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        inherited, new = os.read(read, 200).decode().split()
        print(inherited == mine, new == mine, new == keys.encode_self(Plain()))
    """)
    assert "True False False\n" == child.output()
