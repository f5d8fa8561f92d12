"""The debug door: a look at the live segment of this host."""

from __future__ import annotations

from zoocache import runtime
from zoocache.shm.slots import Process
from zoocache.trie import TagNode


class Core:
    """The core that this process is attached to, configured as the process is."""

    def tag_version(self, tag: str) -> int:
        """The number of the last invalidation that reached the tag; see `zoocache.get_tag_version`."""
        return runtime.engine().tag_version(tag)

    def tags(self) -> list[TagNode]:
        """All tags that have a node of their own, by name."""
        return runtime.engine().on_segment(lambda trie: trie.listing())

    def processes(self) -> list[Process]:
        """The processes that are attached and have computed something, with their counters."""
        return list(runtime.engine().trie.segment.slots.processes())

    def seq(self) -> int:
        """How many mutations the host has seen."""
        return runtime.engine().trie.seq()

    def check(self) -> list[str]:
        """What is wrong with the segment, in words; an empty list if nothing is."""
        return runtime.engine().on_segment(lambda trie: trie.segment.write(trie.faults))
