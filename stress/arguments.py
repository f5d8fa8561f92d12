"""What an argument of the command line may be: the types for argparse, which refuses the rest with status 2.

Status 1 says that a promise was broken, so nothing that was mistyped may come so far as to end a run with a traceback.
"""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from stress import kept_history
from stress.kept_history import History


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type: whole numbers.

    Args:
        least, most: of them; None: there is no bound.
    """
    rule = f"{least} or more" if most is None else f"from {least} to {most}"

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            raise ArgumentTypeError(f"a whole number, {rule}, not {text!r}") from None
        if found < least or (most is not None and found > most):
            raise ArgumentTypeError(f"{rule}, not {found}")
        return found

    return number


def above_zero(text: str) -> float:
    """A type: seconds, or what multiplies them. A run that lasts no time, or for ever, shows nothing.

    Args:
        text: as it was given.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ArgumentTypeError(f"a number above 0, not {text!r}")
    return found


def directory(text: str) -> str:
    """A type: a directory in which files can be made, or that can be made itself.

    Args:
        text: its path; "" for none.
    """
    if not text:
        return text
    path = Path(text).absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise ArgumentTypeError(f"a directory, which {there} is not")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"nothing can be made in {there}")
    return text


def history(text: str) -> History:
    """A type: a file that a run with --history has kept.

    Args:
        text: its path.
    """
    try:
        return kept_history.read(Path(text))
    except kept_history.Unreadable as unreadable:
        raise ArgumentTypeError(str(unreadable)) from None
