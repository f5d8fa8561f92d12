"""The log of this library: `logging.getLogger("zoocache")`, whose module is imported when the cache is first used.

`logging` costs as much as half of the rest of `import zoocache`, and a program that imports a decorated function may
never call it. It is loaded before anything is started (`ready`), so that no message has to import it where that may
fail: in a process that has no descriptor left, or has changed its root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from zoocache.imports import whole

if TYPE_CHECKING:
    from logging import Logger


class _Late:
    """Whatever the logger has."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        with whole:
            import logging

        logger = logging.getLogger("zoocache")
        if not logger.handlers:  # nobody who has not asked for it is to find messages on standard error
            logger.addHandler(logging.NullHandler())
        return getattr(logger, name)


log = cast("Logger", _Late())


def ready() -> None:
    """Import what the first message needs."""
    log.isEnabledFor(0)
