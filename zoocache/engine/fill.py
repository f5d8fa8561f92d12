"""A fill: one execution of a cached function, and the tags that gather while it runs.

The fill under way is found through a context variable, so threads, tasks and nested calls each find their own. A task
that outlives the fill it was started in finds it `done` and is nobody's part any more.

`ACTIVE` holds the fills under way in this process. The wrapper's fast path looks first whether it is empty: if so, no
caller can be inside a fill, and a hit need not ask the context variable, which costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import NoReturn

from zoocache import deps as dependencies
from zoocache.errors import RecursiveFill
from zoocache.flight import Flight


class Fill:
    """One execution.

    Attributes:
        key: what it computes.
        parent: the fill that called it, if any.
        flight: the flight it leads.
        tags: what it depends on so far, in order.
        doubtful: it depends on something else whose tags are not known here; what comes of it is not kept.
        done: whether it has ended.
    """

    __slots__ = ("done", "doubtful", "flight", "key", "parent", "tags")

    def __init__(self, key: str, parent: Fill | None, flight: Flight) -> None:
        self.key = key
        self.parent = parent
        self.flight = flight
        self.tags: dict[str, None] = {}
        self.doubtful = False
        self.done = False

    def add(self, tags: Iterable[str]) -> None:
        """Depend on these too. The tags are checked already."""
        for tag in tags:
            self.tags[tag] = None


ACTIVE: set[Fill] = set()
_current: ContextVar[Fill | None] = ContextVar("zoocache_fill", default=None)


inside = _current.get
"""The fill that the caller runs inside, ended or not."""


def current() -> Fill | None:
    """The fill that the caller runs inside, if it has not ended."""
    fill = _current.get()
    return None if fill is None or fill.done else fill


def chain(fill: Fill | None) -> Iterator[Fill]:
    """A fill, the fill it is for, and so on outwards."""
    while fill is not None:
        if not fill.done:
            yield fill
        fill = fill.parent


def refuse_recursion(key: str, inside: Fill | None) -> None:
    """Stop a fill that wants its own value.

    Raises:
        RecursiveFill: `key` is being computed by a fill that the caller runs inside.
    """
    if any(fill.key == key for fill in chain(inside)):
        _refuse(key)


def refuse_flight(flight: Flight) -> None:
    """Stop a thread that would wait for a flight of its own, if the function of that is running.

    Raises:
        RecursiveFill: it is.
    """
    if any(fill.flight is flight for fill in ACTIVE.copy()):
        _refuse(flight.key)


def _refuse(key: str) -> NoReturn:
    raise RecursiveFill(
        f"{key} needs its own value to compute it; a cached function cannot call itself with the same arguments (use "
        "bypass() for a deliberate recursion)"
    )


def enter(fill: Fill) -> None:
    """Make a fill the current one. It stands in `ACTIVE` as long as there is anything for `leave` to do."""
    ACTIVE.add(fill)
    _current.set(fill)


def leave(fill: Fill, outer: Fill | None) -> None:
    """End a fill, and give its tags to the one it was for. Harmless if repeated.

    Args:
        fill: the fill.
        outer: what `inside` said before it was entered.

    They are handed on whether the function returned or raised: a caller that catches the exception depends on what
    the failed call had looked at. The variable is set only where it is this fill's, and not reset by a token: a
    coroutine that was thrown away ends when it is collected, in whatever context, perhaps inside another fill.
    """
    parent = fill.parent
    if parent is not None and not parent.done:
        parent.tags.update(fill.tags)
        parent.doubtful |= fill.doubtful
    fill.done = True
    if _current.get() is fill:
        _current.set(outer)
    ACTIVE.discard(fill)


def add_deps(deps: object) -> None:
    """Make the entry that is being computed depend on more tags.

    Args:
        deps: a tag, or a list, tuple or set of tags. Outside a cached function this checks the tags and does nothing.

    Raises:
        InvalidTag, InvalidDeps: they break the rules; the entry is as it was.
    """
    tags = dependencies.check_deps(deps)
    fill = current()
    if fill is not None:
        fill.add(tags)


def note(tags: Iterable[str], *, doubtful: bool = False) -> None:
    """What a fill finds done already: the outer entry depends on what the inner one depends on.

    Args:
        tags: of the inner one.
        doubtful: it depends on more than these, and nobody here knows on what.
    """
    fill = current()
    if fill is not None:
        fill.tags.update(dict.fromkeys(tags))
        fill.doubtful |= doubtful


def after_fork() -> None:
    """In a forked child no fill is under way: they are the parent's, which ends them.

    A child may come back from a function that its parent called, and end that fill a second time; or it may be a
    worker that lives on for years. So the fill it was forked in takes no more tags, and what it brings here is not
    kept.
    """
    for fill in ACTIVE:
        fill.doubtful = True
    ACTIVE.clear()
    _current.set(None)
