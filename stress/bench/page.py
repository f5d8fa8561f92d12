"""The page of documents that shows the table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from stress.bench.crowds import cores
from stress.bench.rivals import PACKAGES, missing
from stress.bench.table import Row, as_markdown

_TEXT = """\
# Benchmarks

One run of `make bench` (which is `python -m stress bench`; `--write docs/benchmarks.md` makes this page), beside
other caches that were measured in the same minutes.

{system}.

Each figure is the least of many samples, and the candidates of a comparison took turns: other work of the machine only
ever adds time. The ratios are what counts; the microseconds are this machine's. A ratio is zoocache's time divided by
the other's, so below 1 zoocache is the faster one. `met` compares with the project's own targets, and says no where
they were missed in this run.

What is measured:

- **hit**: a call with one int argument that was computed before; its entry depends on a tag four levels deep. `dict`
  is a bare look-up in a dict, without a function around it. *beyond its decoding* takes the time of decoding the value
  off.
- **seq moved before each**: the host saw an invalidation of something else before every single call.
- **miss**: a call with an argument that nobody had before, less the time of the function itself.
- **invalidate**: the least of thirty calls after all the entries below the tag were computed anew; *the first* is the
  least of the first ones, which find the processor's caches full of other things. diskcache's `evict` drops the
  entries of a tag one by one.
- **tags**: all of them were invalidated once, so the trie holds a node for each. *the same* is one tag again and
  again, *any* picks tags at random. Processes of different minutes are compared by what a hit of `lru_cache` cost in
  each.
- **hits of N processes**: in a second of the processor's time, which other work on the machine does not shorten; *by
  the clock* is how many times the hits of one process they had together, beside processes that share nothing at all.
- **private memory** leaves the segment and LMDB's map out.
- **several hosts**: two `host_id`s on this machine, each with a listener, and one real server behind a socket in a
  file; `redis-py` asks it over the same socket, in turns. *Visibility* begins when `invalidate` is called on one host,
  and ends with the beginning of the first call on the other that gets the new value; a process there calls every tenth
  of a millisecond. *idle*: nothing else was invalidated in the 20 ms before each sample. *amid N a second*: the same
  process invalidates other tags all the time, a thousand a second if the server keeps up.
- **invalidate with a bus** leaves word in the outbox and returns; what the listener then does on another core is not
  in it, where there is another core. With Redis storage it returns when the server has it.
- **miss, Redis** asks twice: for the entry, or else the right to compute it, and to keep it.

{table}
{left_out}"""


def system() -> str:
    """What this ran on."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if name not in missing())
    return (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()} "
        f"with {cores()} cores; {versions or 'no other cache installed'}"
    )


def left_out() -> str:
    """What could not be compared; empty if all is there."""
    absent = ", ".join(missing())
    return f"Not installed, so not compared: {absent} (the dependency group `bench`)." if absent else ""


def written(rows: Sequence[Row]) -> str:
    """The page."""
    text = left_out()
    return _TEXT.format(system=system(), table=as_markdown(rows), left_out=f"\n{text}\n" if text else "")
