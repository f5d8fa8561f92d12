"""The signals that end the demo: all of them unwind the stack, and none comes between a process and its reaper."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def orderly() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does; the exit status is what a shell would say."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Hold the ending signals back: what was begun inside is also written down inside. They come at its end.

    A blocked signal (`pthread_sigmask`) was rejected: a child that is started inside would inherit the block.
    """
    pending: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    before = {each: signal.signal(each, hold) for each in ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in pending[:1]:
            signal.raise_signal(number)
