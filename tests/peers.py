"""Processes under remote control, for tests in which several share one cache: each does what it is told, line by line.

    ann, bob = start_peer(children), start_peer(children)
    assert 0 == ann.call("thing", "a")
    bob.call("zoocache.invalidate", "thing:a")

    ann.call("close_gate", "a")
    ann.begin("thing", "a")
    ann.wait_inside("a")           # it computes now, and will until it is told to go on
    ann.go_on()
    assert 0 == ann.result()

A name is one of `tests.promises.world`; arguments and results are what JSON can carry.
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Mapping
from typing import Any

from tests.children import Child, Children


class PeerError(Exception):
    """What a call raised in the peer: (name of the type, message)."""


class Peer:
    """One such process; `child` is what runs it."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.pid = child.pid

    def begin(self, name: str, *args: object, **kwargs: object) -> None:
        """Have a function called, and do not wait for it."""
        self.child.say(json.dumps([name, args, kwargs]))

    def result(self) -> Any:
        """What the call that was begun returned.

        Raises:
            PeerError: it raised.
        """
        value, error = json.loads(self.child.wait_for("[")[:])
        if error is not None:
            raise PeerError(*error)
        return value

    def call(self, name: str, *args: object, **kwargs: object) -> Any:
        """`begin` and `result`."""
        self.begin(name, *args, **kwargs)
        return self.result()

    def wait_inside(self, name: str) -> None:
        """Wait until it stands at the closed gate of a thing."""
        self.child.wait_for(f"inside {name}")

    def go_on(self) -> None:
        """Let it through the gate at which it stands."""
        self.child.say()


def start_peer(children: Children, points: str = "", env: Mapping[str, str] | None = None) -> Peer:
    """Start a peer; it is ready when this returns."""
    child = children.code("from tests.peers import obey; obey()", points=points, env=env)
    child.wait_for("ready")
    return Peer(child)


def obey() -> None:
    """In the peer: do what the lines say, until there are no more."""
    from tests.promises import world

    print("ready", flush=True)
    while line := sys.stdin.readline():
        name, args, kwargs = json.loads(line)
        try:
            answer = [operator.attrgetter(name)(world)(*args, **kwargs), None]
        except Exception as error:  # noqa: BLE001  # it is for whoever asked
            answer = [None, [type(error).__name__, str(error)]]
        print(json.dumps(answer), flush=True)
