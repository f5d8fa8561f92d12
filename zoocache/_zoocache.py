"""The debug door: a look at the live segment of this host, and the way to remove it."""

from __future__ import annotations

import os

from zoocache import runtime
from zoocache.config import UNSET, Settings, Unset, settings_from
from zoocache.shm import attachment, identity
from zoocache.shm.layout import MIN_SIZE
from zoocache.shm.slots import Process
from zoocache.trie import TagNode, Trie


class Core:
    """The core that this process is attached to, configured as the process is."""

    def tag_version(self, tag: str) -> int:
        """The number of the last invalidation that reached the tag; see `zoocache.get_tag_version`."""
        return runtime.engine().tag_version(tag)

    def tags(self) -> list[TagNode]:
        """All tags that have a node of their own, by name."""
        return self._trie().listing()

    def processes(self) -> list[Process]:
        """The processes that are attached and have computed something, with their counters."""
        return list(self._trie().segment.slots.processes())

    def seq(self) -> int:
        """How many mutations the host has seen."""
        return self._trie().seq()

    def check(self) -> list[str]:
        """What is wrong with the segment, in words; an empty list if nothing is."""
        return runtime.engine().on_segment(lambda trie: trie.segment.write(trie.faults))

    def settings(self) -> Settings:
        """What this process is configured with."""
        return runtime.settings()

    def listen(self) -> None:
        """Be the host's listener until SIGTERM or SIGINT: for the main thread of a process that does nothing else.

        Raises:
            ConfigError: neither entries nor a bus lie in Redis, so there is nobody to listen to.
        """
        from zoocache.listener import process  # with all of Redis, which nobody else of this room needs

        process.run(runtime.settings())

    def _trie(self) -> Trie:
        """The host's trie: who only looks would not notice that the segment has lost its name, and look for ever."""
        engine = runtime.engine()
        trie = engine.trie
        if not trie.segment.is_current():
            trie.segment.retire()
            engine.reattach(trie)
        return engine.trie


def segment_bytes(prefix: str | Unset | None = UNSET) -> int | None:
    """The size of the segment of a prefix, without attaching to it or making one.

    Args:
        prefix: as in `configure`; left out: the environment's, as `host_id` always is.

    Returns:
        Bytes; None if there is no segment, or none that anybody could use.

    Raises:
        ConfigError: no prefix.
    """
    settings = settings_from(prefix=prefix)
    name = identity.segment_name(settings.prefix or "", host_id=settings.host_id or "")
    try:
        size = os.stat(identity.segment_file(name)).st_size
    except FileNotFoundError:
        return None
    return size if size >= MIN_SIZE else None


def destroy(prefix: str | Unset | None = UNSET) -> bool:
    """Remove the segment of a prefix from this host, if no process is attached to it, this one included.

    What a storage keeps stays, and stays as valid or invalid as it is.

    Args:
        prefix: as in `configure`; left out: the environment's, as `host_id` always is.

    Returns:
        Whether there was one.

    Raises:
        ConfigError: no prefix.
        SegmentError: somebody is attached.
    """
    settings = settings_from(prefix=prefix)
    return attachment.destroy(settings.prefix or "", settings.host_id or "")
