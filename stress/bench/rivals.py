"""Other caches, each as a decorator with its own way of keying arguments; those that are not installed are left out."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = 4096
TTL_S = 3600

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PACKAGES = ("diskcache", "cachebox", "cachetools")


def _module(name: str) -> Any | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _one_each(make: Callable[[], Decorator]) -> Decorator:
    """A decorator that gives each function a cache of its own."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        return make()(fn)

    return decorate


def missing() -> list[str]:
    """The packages that are not installed."""
    return [name for name in PACKAGES if _module(name) is None]


def in_memory() -> dict[str, Decorator]:
    """Caches inside one process."""
    found: dict[str, Decorator] = {"lru_cache": functools.lru_cache(maxsize=SIZE)}
    cachebox, cachetools = _module("cachebox"), _module("cachetools")
    if cachebox is not None:
        found["cachebox"] = _one_each(lambda: cachebox.cached(cachebox.LRUCache(SIZE)))
    if cachetools is not None:
        found["cachetools"] = _one_each(lambda: cachetools.cached(cachetools.LRUCache(SIZE)))
    return found


def with_ttl() -> dict[str, Decorator]:
    """The same with a life of TTL_S."""
    found: dict[str, Decorator] = {}
    cachebox, cachetools = _module("cachebox"), _module("cachetools")
    if cachebox is not None:
        found["cachebox, TTL"] = _one_each(lambda: cachebox.cached(cachebox.TTLCache(SIZE, TTL_S)))
    if cachetools is not None:
        found["cachetools, TTL"] = _one_each(lambda: cachetools.cached(cachetools.TTLCache(SIZE, TTL_S)))
    return found


def on_disk(directory: Path) -> dict[str, Decorator]:
    """Caches that outlive a process."""
    cache = disk_cache(directory)
    return {} if cache is None else {"diskcache": cache.memoize()}


def disk_cache(directory: Path) -> Any | None:
    """The cache of diskcache itself, with an index of tags; None without diskcache."""
    diskcache = _module("diskcache")
    return None if diskcache is None else diskcache.Cache(str(directory / "diskcache"), tag_index=True)
