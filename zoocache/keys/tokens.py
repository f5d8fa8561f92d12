"""Tokens of instances: 128 random bits that stand for one object as long as it lives.

An object that has no value of its own (a repository with a connection, a service) can only be told by who it is. Its
address will not do, for addresses are used again; its `__eq__` and `__hash__` are its author's. So it gets a token when
it is first met, held in a table by its address and let go by the callback of a weak reference: CPython calls that
before the memory can be used again. A forked child inherits the table, and with it the tokens of its objects.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

_TOKEN_BYTES = 16


class _Held(weakref.ref[Any]):
    """A weak reference that knows the address of what it referred to, and its token."""

    __slots__ = ("address", "token")

    address: int
    token: str


# By address. Each step on it is one dict operation, which the interpreter makes whole; no lock, for callbacks come
# at any moment, also inside these very functions.
_held: dict[int, _Held] = {}


def _hold(thing: Any) -> _Held:
    held = _Held(thing, _let_go)
    held.address = id(thing)
    held.token = f"@{os.urandom(_TOKEN_BYTES).hex()}"
    return held


def _let_go(held: _Held) -> None:
    if _held.get(held.address) is held:
        del _held[held.address]


def known_token(thing: Any) -> str | None:
    """The token of a thing that was met before, else None."""
    held = _held.get(id(thing))
    return held.token if held is not None and held() is thing else None


def token_of(thing: Any) -> str:
    """The token of a thing: `@` and 32 hexadecimal digits, another for each object.

    Raises:
        TypeError: it cannot be weakly referenced.
    """
    token = known_token(thing)
    if token is not None:
        return token
    fresh = _hold(thing)
    held = _held.setdefault(fresh.address, fresh)  # another thread may have been quicker
    if held() is not thing:
        held = _held[fresh.address] = fresh
    return held.token
