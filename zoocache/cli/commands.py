"""The commands: each attaches to the cache of the configured prefix, says one thing to it, and shows the answer.

Looking makes nothing: `tags`, `top` and `check` say so where a prefix has no segment. Whoever attaches keeps the size
that the segment has, for a process that is alone and configured with another size would replace it.

Exit status: 0; 1 for a fault that was found or an error of zoocache, told in one line; 2 for wrong usage.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import zoocache
from zoocache import _zoocache
from zoocache._zoocache import Core
from zoocache.cli import top as live

Prefix = Annotated[
    str | None, typer.Option("--prefix", metavar="NAME", show_default=False, help="Of the cache; else ZOOCACHE_PREFIX.")
]
StorageUrl = Annotated[
    str | None,
    typer.Option("--storage-url", metavar="URL", show_default=False, help="Of its entries; else ZOOCACHE_STORAGE_URL."),
]

app = typer.Typer(
    help="A cache for Python functions, shared by all processes of a host and invalidated by tags.",
    epilog="Settings come from the environment (ZOOCACHE_PREFIX, ZOOCACHE_STORAGE_URL and so on) and from options.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def run_command(arguments: Sequence[str] | None) -> NoReturn:
    """Carry out a command line; None: that of this process."""
    warnings = logging.StreamHandler()
    logging.getLogger("zoocache").addHandler(warnings)
    try:
        sys.exit(app(arguments, prog_name="zoocache"))
    except zoocache.ZooCacheError as error:
        fail(getattr(error, "strerror", None) or str(error))
    finally:
        logging.getLogger("zoocache").removeHandler(warnings)


def fail(message: str) -> NoReturn:
    """End with one line on standard error."""
    line = " ".join(message.split())
    print(line if line.startswith("zoocache: ") else f"zoocache: {line}", file=sys.stderr)
    sys.exit(1)


def attach(prefix: str | None, storage_url: str | None, bus_url: str | None = None) -> Core:
    """Configure this process as the options and the environment say."""
    named = zoocache.UNSET if prefix is None else prefix
    zoocache.configure(
        prefix=named,
        storage_url=zoocache.UNSET if storage_url is None else storage_url,
        bus_url=zoocache.UNSET if bus_url is None else bus_url,
        shm_size=_zoocache.segment_bytes(named) or zoocache.UNSET,
    )
    return Core()


def look(prefix: str | None, storage_url: str | None) -> Core:
    """As `attach`, but only where there is something to look at."""
    core = attach(prefix, storage_url)
    if _zoocache.segment_bytes(core.settings().prefix) is None:
        fail(f"there is no segment of {named_prefix(core)} on this host: no process has used it since it started")
    return core


def named_prefix(core: Core) -> str:
    """The prefix, as sentences name it."""
    prefix = core.settings().prefix
    return "the empty prefix" if prefix is None else f"prefix {prefix!r}"


def stopped_ones(core: Core) -> str:
    """Which processes of the prefix are stopped, as a sentence to append; nothing if none is seen to be."""
    pids = [str(each.pid) for each in core.processes() if state_of(each.pid) in ("T", "t")]
    return f" Stopped at this moment: process {' and '.join(pids)}." if pids else ""


def state_of(pid: int) -> str:
    """The letter for the state of a process, as `ps` shows it; nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def reached(core: Core) -> str:
    """What a mutation has reached, so that nobody believes that it reached entries it was not told of."""
    kind = core.settings().storage_kind
    hint = "; for entries kept in LMDB give --storage-url" if kind == "memory" else ""
    return f"({named_prefix(core)}, storage {kind}{hint})"


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=5, max=300, help="How long it takes, about.")] = 20,
    workers: Annotated[int, typer.Option(min=4, max=32, help="How many processes read through the cache.")] = 4,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of a live picture.")] = False,
    storage: Annotated[str, typer.Option(help="lmdb or memory.")] = "lmdb",
) -> None:
    """Watch several processes share one cache; exit status 0 if every promise that it shows held."""
    from zoocache.demo.scene import Plan
    from zoocache.demo.show import STORAGES, run

    if storage not in STORAGES:
        raise typer.BadParameter(f"there are {' and '.join(STORAGES)}", param_hint="--storage")
    raise typer.Exit(run(Plan(seconds, workers, storage, plain)))


@app.command()
def top(
    prefix: Prefix = None,
    storage_url: StorageUrl = None,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two pictures.")] = 1.0,
) -> None:
    """Watch the processes of a prefix and its tags; Ctrl-C ends it."""
    core = look(prefix, storage_url)
    live.watch(core, interval, once=once)


@app.command()
def tags(prefix: Prefix = None, storage_url: StorageUrl = None) -> None:
    """List the tags that were invalidated, with their versions."""
    nodes = look(prefix, storage_url).tags()
    print(f"{'VERSION':>10}  {'INVALIDATED (UTC)':<19}  TAG")
    for node in nodes:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(node.at_s))
        print(f"{node.changed:>10}  {when}  {node.tag}")


@app.command()
def invalidate(
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="For example org:1:team:a", show_default=False)],
    prefix: Prefix = None,
    storage_url: StorageUrl = None,
) -> None:
    """Kill all entries that depend on these tags or on anything below them."""
    core = attach(prefix, storage_url)
    zoocache.invalidate(*tags)
    print(f"invalidated {', '.join(tags)}: version {core.tag_version(tags[0])} {reached(core)}")


@app.command()
def clear(prefix: Prefix = None, storage_url: StorageUrl = None) -> None:
    """Drop all entries and all tags."""
    core = attach(prefix, storage_url)
    zoocache.clear()
    print(f"cleared {reached(core)}")


@app.command()
def prune(
    seconds: Annotated[float, typer.Argument(metavar="SECONDS", help="Since the last invalidation.")],
    prefix: Prefix = None,
    storage_url: StorageUrl = None,
) -> None:
    """Give back the nodes of tags that were not invalidated for so long; nothing becomes stale by it."""
    core = attach(prefix, storage_url)
    dropped = zoocache.prune(seconds)
    print(f"gave back {dropped} {'tag' if dropped == 1 else 'tags'} {reached(core)}")


@app.command()
def check(prefix: Prefix = None, storage_url: StorageUrl = None) -> None:
    """Look for faults in the segment; exit status 1 if there are any."""
    core = look(prefix, storage_url)
    try:
        faults = core.check()
    except zoocache.Busy as error:
        fail(f"{error}{stopped_ones(core)}")
    for fault in faults:
        print(fault)
    if faults:
        raise typer.Exit(1)
    print(f"the segment of {named_prefix(core)} is sound")


@app.command()
def listen(
    prefix: Prefix = None,
    storage_url: StorageUrl = None,
    bus_url: Annotated[
        str | None,
        typer.Option("--bus-url", metavar="URL", show_default=False, help="Of the bus; else ZOOCACHE_BUS_URL."),
    ] = None,
) -> None:
    """Run the host's listener in the foreground, for a supervisor; SIGTERM and Ctrl-C end it."""
    core = attach(prefix, storage_url, bus_url)
    core.listen()


@app.command()
def destroy(prefix: Prefix = None) -> None:
    """Remove the segment of a prefix, if no process is attached to it. What LMDB keeps stays."""
    there = _zoocache.destroy(zoocache.UNSET if prefix is None else prefix)
    print("destroyed" if there else "there was nothing to destroy")


@app.command()
def version() -> None:
    """Print the version of zoocache."""
    print(zoocache.version())
