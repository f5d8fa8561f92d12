"""What a decorated function is to its callers: called as before, with a few things to ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class CallInfo(NamedTuple):
    """What happened to the calls of one function, in this process.

    Attributes:
        hits: calls that got a kept value.
        misses: calls that did not: they computed, or waited for one that did.
        fills: executions of the function.
        failures: executions that raised.
        entries: values held live at this moment by all functions of the process.
    """

    hits: int
    misses: int
    fills: int
    failures: int
    entries: int


class Cached(Protocol, Generic[P, R_co]):
    """A decorated function: called as before, with a few things to ask of it."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The kept value, or what the function returns now."""

    def __get__(self, instance: Any, owner: type | None = None) -> Callable[..., R_co]: ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The full key of a call; `get` and `delete` take it."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Compute now, whatever is kept, and keep the result in its place. If the function raises, all stays.

        Raises:
            Busy, StorageError: what was there could not be replaced, and stays; it is not for `on_storage_error`, since
                whoever refreshes must know.
        """

    def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself; the cache is neither read nor written."""

    def invalidate_call(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Drop the entry of one call, in every process of the host; whether one was there."""

    def info(self) -> CallInfo:
        """What happened so far."""
