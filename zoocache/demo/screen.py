"""The stage as a live picture, from 80 columns and 24 lines on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.align import Align
from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zoocache.demo import tree
from zoocache.demo.acts import PROGRAMS
from zoocache.demo.crew import Member
from zoocache.demo.lines import verdict
from zoocache.demo.promise import Promise, all_kept
from zoocache.demo.scene import Act, Counts, Scene

WIDEST = 110
TALLEST = 32
TREE_COLUMNS, WIDE_TREE_COLUMNS = 30, 48
WIDE = 98
"""From so many columns on, the tree spells the users out."""

HEAD_LINES = 7
"""The title, the acts, the headline's box, and the counts."""

STATE_COLUMNS = 9

STATES = {
    "reading": "green", "asking": "green", "updating": "magenta", "computing": "yellow", "waiting": "yellow",
    "locking": "magenta", "blocked": "yellow", "frozen": "bold cyan", "killed": "bold red", "ended": "dim",
}  # fmt: skip


class Screen:
    """See `scene.Stage`."""

    def __init__(self) -> None:
        self._console = Console(markup=False, emoji=False, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        self._live.start()
        self._number = 0
        self._act: Act | None = None
        self._broken: set[int] = set()
        self._told: deque[Text] = deque(maxlen=TALLEST)

    def begin(self, number: int, act: Act) -> None:
        """An act begins."""
        self._number, self._act = number, act

    def tell(self, text: str) -> None:
        """Something happened."""
        self._told.append(Text(f"  {text}", no_wrap=True, overflow="ellipsis"))

    def judge(self, promise: Promise) -> None:
        """A promise was tested."""
        if not promise.kept:
            self._broken.add(self._number)
        self._told.append(Text.assemble(_mark(promise.kept), f" {promise.seen}", no_wrap=True, overflow="ellipsis"))

    def tick(self, scene: Scene) -> None:
        """Draw the picture."""
        self._live.update(self._picture(scene), refresh=True)

    def close(self) -> None:
        """Take the picture away; the summary follows."""
        self._live.stop()

    def _picture(self, scene: Scene) -> RenderableType:
        width, height = min(WIDEST, self._console.width), min(TALLEST, self._console.height)
        body_lines = max(tree.LINES + 2, min(len(scene.crew.members) + 3, height - HEAD_LINES - 3))
        rows = [
            self._title(scene), self._ribbon(scene), self._headline(), _counts(scene),
            _body(scene, width, body_lines), *self._news(height - HEAD_LINES - body_lines),
        ]  # fmt: skip
        picture = Table.grid(expand=True)
        picture.add_column(width=width)
        for row in rows:
            picture.add_row(row)
        return picture

    def _title(self, scene: Scene) -> RenderableType:
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right")
        name = Text.assemble(("zoocache", "bold cyan"), (f"  one cache, {scene.plan.storage}, many processes", "dim"))
        line.add_row(name, Text(f"{scene.pace.elapsed_s():.0f} s of {scene.plan.seconds:.0f}", "dim"))
        return line

    def _ribbon(self, scene: Scene) -> Text:
        text = Text(no_wrap=True)
        for number, act in enumerate(PROGRAMS[scene.plan.storage], 1):
            if number == self._number:
                text.append(f" {number} {act.name} ", "bold black on cyan")
            elif number < self._number:
                text.append(" ").append_text(_mark(number not in self._broken)).append(f" {act.name} ", "dim")
            else:
                text.append(f" {number} {act.name} ", "dim")
            text.append(" ")
        return text

    def _headline(self) -> Panel:
        title = self._act.title if self._act else "The processes start"
        told = self._act.told if self._act else "Each is a Python interpreter of its own."
        return Panel(
            Text(told), title=Text(title, "bold"), title_align="left", box=ROUNDED, border_style="cyan", height=4
        )

    def _news(self, count: int) -> list[Text]:
        return list(self._told)[-count:] if count > 0 else []


def _mark(kept: bool) -> Text:
    return Text("✓", "bold green") if kept else Text("✗", "bold red")


def _counts(scene: Scene) -> Text:
    reads, stale, updates = scene.totals()
    fresh = "bold red" if stale else "bold green"
    return Text.assemble(
        " the oracle: ", (f"{reads:,}", "bold"), " reads judged, ", (f"{stale:,}", fresh),
        " stale, ", (f"{updates:,}", "bold"), " invalidations", style="dim",
    )  # fmt: skip


def _body(scene: Scene, width: int, lines: int) -> Table:
    tree_columns = WIDE_TREE_COLUMNS if width >= WIDE else TREE_COLUMNS
    body = Table.grid(expand=True)
    body.add_column(width=width - tree_columns)
    body.add_column(width=tree_columns)
    body.add_row(
        Panel(_processes(scene, lines - 3), title="processes", title_align="left", border_style="dim", height=lines),
        Panel(_tags(scene, tree_columns - 4), title="tags, last invalidation", title_align="left",
              border_style="dim", height=lines),
    )  # fmt: skip
    return body


def _tags(scene: Scene, columns: int) -> RenderableType:
    if scene.core is None:
        return Align.center(Text("the segment is gone", "dim"), vertical="middle")
    return tree.tag_tree(scene.tags, columns)


def _processes(scene: Scene, most: int) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", width=8, no_wrap=True)
    for name, columns in (("pid", 6), ("hits", 8), ("misses", 6), ("fills", 5)):
        table.add_column(name, justify="right", no_wrap=True, min_width=columns)
    table.add_column("", width=STATE_COLUMNS, no_wrap=True)
    members = scene.crew.members
    if len(members) > most:  # those that are gone give way first
        members = [each for each in members if each.state not in ("ended", "killed")]
    for each in members[:most]:
        _add_process(table, each, scene.counts.get(each.pid))
    return table


def _add_process(table: Table, member: Member, counts: Counts | None) -> None:
    numbers = ("", "", "") if counts is None else (_short(counts.hits), _short(counts.misses), _short(counts.fills))
    gone = member.state in ("ended", "killed")
    state = Text(member.state, STATES.get(member.state, "dim"))
    table.add_row(member.name, str(member.pid), *numbers, state, style="dim" if gone else "")


def _short(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.2f} M"


def print_summary(promises: Sequence[Promise]) -> None:
    """What was promised, what was seen, and whether it held."""
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, width=min(WIDEST, console.width), padding=(0, 2, 0, 0)
    )
    table.add_column("what was promised", ratio=5)
    table.add_column("what was seen", ratio=6, style="dim")
    table.add_column("", width=1)
    for promise in promises:
        table.add_row(Text(promise.said), Text(promise.seen), _mark(promise.kept))
    style = "bold green" if all_kept(promises) else "bold red"
    console.print(Group(Text(), table, Text(), Text(verdict(promises), style), Text()))
