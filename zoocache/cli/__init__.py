"""The command line: `zoocache demo`, `zoocache top`, `zoocache invalidate org:1` and so on.

    commands.py   what each command does; settings from the environment, then from its options
    top.py        the picture that `zoocache top` shows

It needs typer and rich, the extra `cli`; the library itself needs neither.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

EXTRA = ("typer", "click", "rich")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. Exit status 2 if the extra is missing; the rest see `zoocache.cli.commands`.

    Args:
        arguments: None: those of the process.
    """
    if arguments is None and sys.argv[1:2] == ["listen"]:
        _end_in_order()
    try:
        from zoocache.cli import commands
    except ModuleNotFoundError as missing:
        top = (missing.name or "").split(".")[0]
        if top not in EXTRA:
            raise
        print(f"zoocache: the command line needs {top}: pip install zoocache[cli]", file=sys.stderr)
        sys.exit(2)
    commands.run_command(arguments)


def _end_in_order() -> None:
    """Have a listener's end be an orderly one from the first moment on, for a supervisor who changes his mind while it
    is being loaded: nothing is held yet, and there is nothing to give back. The first process of a container, which a
    signal without a handler does not reach, would otherwise miss it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: os._exit(0))
