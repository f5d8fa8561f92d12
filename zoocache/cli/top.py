"""The picture of `zoocache top`: who is attached to a segment, and which tags were invalidated last."""

from __future__ import annotations

import contextlib
import heapq
import signal
import time
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zoocache import ZooCacheError
from zoocache._zoocache import Core

TAGS_ONCE = 40
"""How many tags a single picture shows; `zoocache tags` lists them all."""

OTHER_LINES = 9
"""Lines of a picture that are neither a process nor a tag."""

Hits = dict[int, int]


class Watch:
    """What one picture needs of the one before it: the hits of each process, and when they were read."""

    def __init__(self) -> None:
        self._hits: Hits = {}
        self._at_s = 0.0

    def rates(self, hits: Hits) -> dict[int, float]:
        """Hits a second of each process that was there before."""
        now_s = time.monotonic()
        before, passed_s = self._hits, now_s - self._at_s
        self._hits, self._at_s = hits, now_s
        return {pid: max(0, count - before[pid]) / passed_s for pid, count in hits.items() if pid in before}


def watch(core: Core, interval_s: float, *, once: bool) -> None:
    """Show the segment until Ctrl-C, or once; where there is no terminal, once."""
    console = Console(markup=False, emoji=False, highlight=False)
    state = Watch()
    if once or not console.is_terminal or console.is_dumb_terminal:
        console.print(picture(core, state, TAGS_ONCE))
        return
    screen = Live(console=console, screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), _held_back(signal.SIGINT), screen:
        while True:
            screen.update(framed(core, state, console.height), refresh=True)
            if signal.sigtimedwait({signal.SIGINT}, interval_s) is not None:
                return


@contextlib.contextmanager
def _held_back(number: int) -> Iterator[None]:
    """Let a signal wait until it is asked for: amid a rendering Ctrl-C could leave the terminal in its other screen."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def framed(core: Core, state: Watch, height: int) -> RenderableType:
    """A picture that fits, or the line that says why there is none now; the next look may find it well again."""
    try:
        return picture(core, state, max(3, height - OTHER_LINES - len(core.processes())))
    except ZooCacheError as error:
        return Text(f"zoocache: {error}", style="red")


def picture(core: Core, state: Watch, most_tags: int) -> RenderableType:
    """Processes and tags, as they are now."""
    return Group(_head(core), Text(), _processes(core, state), Text(), _tags(core, most_tags))


def _head(core: Core) -> Text:
    prefix = core.settings().prefix or "(no prefix)"
    return Text.assemble(("zoocache ", "bold"), (prefix, "bold cyan"), f"   {core.seq():,} mutations so far")


def _processes(core: Core, state: Watch) -> Table:
    table = _table("PID", "RUNNING", "HITS", "HITS/S", "MISSES", "FILLS", "HIT RATE")
    processes = core.processes()
    rates = state.rates({each.pid: each.hits for each in processes})
    for each in processes:
        rate = rates.get(each.pid)
        calls = each.hits + each.misses
        table.add_row(
            str(each.pid), ago(time.time() - each.started_ms / 1000), f"{each.hits:,}",
            "" if rate is None else f"{rate:,.0f}", f"{each.misses:,}", f"{each.fills:,}",
            f"{each.hits / calls:.1%}" if calls else "",
        )  # fmt: skip
    if not processes:
        table.add_row("none", style="dim")
    return table


def _tags(core: Core, most: int) -> RenderableType:
    nodes = core.tags()
    latest = heapq.nlargest(most, nodes, key=lambda node: node.changed)
    table = _table("VERSION", "AGO")
    table.add_column("TAG", header_style="bold", overflow="ellipsis", no_wrap=True)
    for node in latest:
        table.add_row(f"{node.changed:,}", ago(time.time() - node.at_s), node.tag)
    more = len(nodes) - most
    rest = f"and {more:,} more; zoocache tags lists them all" if more > 0 else f"{len(nodes):,} tags were invalidated"
    return Group(table, Text(rest, style="dim"))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", header_style="bold", no_wrap=True)
    return table


def ago(duration_s: float) -> str:
    """A duration in its two largest units."""
    whole_s = max(0, int(duration_s))
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60} s"
    if whole_s < 86400:
        return f"{whole_s // 3600} h {whole_s % 3600 // 60} min"
    return f"{whole_s // 86400} d {whole_s % 86400 // 3600} h"
