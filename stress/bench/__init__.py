"""bench: how fast zoocache is, beside other caches, in one run and as ratios.

    python -m stress bench [--quick] [--write docs/benchmarks.md]

    timing            best of many, the candidates taking turns
    place             a directory and a prefix for one measurement, in a process of its own
    rivals            other caches, as far as they are installed
    hits, misses, invalidations, tags, crowds, footprint, hosts      what is measured
    server, visibility      for hosts: a Redis server, and how soon another host sees
    table             rows, and the two ways to print them

A machine's other work only ever adds time, so the least of many samples is the best estimate; and because the machine
itself changes its speed, the candidates of a comparison are measured in turns, not one after the other. Ratios within
one run are what counts: the microseconds are this machine's.
"""

from __future__ import annotations

from pathlib import Path

from stress.bench import crowds, footprint, hits, hosts, invalidations, misses, page, tags
from stress.bench.table import Row, as_text
from stress.bench.timing import FULL, QUICK

SECTIONS = {
    "hits": hits.rows, "misses": misses.rows, "invalidations": invalidations.rows, "tags": tags.rows,
    "crowds": crowds.rows, "footprint": footprint.rows, "hosts": hosts.rows,
}  # fmt: skip


def main(quick: bool, write: Path | None, only: list[str]) -> int:
    """Run the bench and print its table.

    Args:
        quick: a rough look in less time.
        write: a page to write.
        only: names of SECTIONS; none: all.

    Returns:
        The exit status, which is 0: that a target was missed is no failure of the bench.
    """
    print(page.system())
    if page.left_out():
        print(page.left_out())
    rows: list[Row] = []
    for name in only or SECTIONS:
        print(f"  measuring {name} …", flush=True)
        rows += SECTIONS[name](QUICK if quick else FULL)
    print(as_text(rows))
    if write is not None:
        write.write_text(page.written(rows))
    return 0
