"""The command line: python -m stress NAME --processes P --seconds S --seed N."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stress import arguments as types
from stress import bench, churn, forks, herd, killer, partition, proof, reboot, remains, soak, storm
from stress.hosts import MOST_HOSTS
from stress.mutants import MUTANTS, table
from stress.run import Idle, Leaked, Options
from zoocache.shm.layout import MIN_SIZE, layout_of

PROGRAMS: dict[str, Callable[[Options], bool]] = {
    "herd": herd.main, "storm": storm.main, "killer": killer.main, "churn": churn.main,
    "reboot": reboot.main, "forks": forks.main, "soak": soak.main, "partition": partition.main,
}  # fmt: skip
ON_HOSTS = "partition"
WITH_SERVER = ("storm", "killer", "churn", "reboot", "forks", "soak")
"""Those that may be given a server, though they have one host."""
LEAST = {
    "churn": "there were so many tags", "reboot": "so many ends were survived",
    "herd": "there were so many rounds of each kind",
}  # fmt: skip
"""Those that may be told how much to do."""
WITH_HISTORY = ("storm", "killer", "reboot", "soak", "partition")
"""Those beside which the history checker works."""
REFUSALS: dict[str, Callable[[Options], str]] = {"killer": killer.refusal, "partition": partition.refusal}
"""Of those whose options may each be right, and wrong together: what is wrong; "" for nothing."""
HOST_STORAGES = ("memory", "lmdb")
EVERY_STORAGE = (*HOST_STORAGES, "redis")
HOSTS, PROCESSES_OF_A_HOST = 3, 2
PROCESSES = 6
MOST_PROCESSES = layout_of(MIN_SIZE).slots - 2
"""Of a segment as small as those of the runs: who has no slot cannot claim, and computes what others do. One more is a
listener's, and one that of somebody who comes while it is not yet seen who has died."""
SECONDS = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a program.

    Args:
        arguments: of the command line.

    Returns:
        The exit status: 0 if every promise held; 1 if one was broken, or nothing was done to try them.

    Raises:
        SystemExit: with status 2: the command line cannot be meant so, or the history that it names cannot be judged.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.name in REFUSALS and (refused := REFUSALS[chosen.name](_options(chosen))):
        parser.error(refused)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if chosen.name == "bench":
            return bench.main(chosen.quick, chosen.write, chosen.only)
        if chosen.name == "history":
            return 0 if proof.main(chosen.file) else 1
        if chosen.name == "clean":
            return 0 if remains.main(chosen.pid) else 1
        if chosen.name == "mutants":
            return 0 if table.main(chosen.only, chosen.seconds) else 1
        return _run(chosen.name, _options(chosen))
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130


def _interrupt(_number: int, _frame: object) -> None:
    """SIGTERM ends a run as an interruption does: nothing is left behind."""
    raise KeyboardInterrupt


def _options(chosen: argparse.Namespace) -> Options:
    return Options(**{name: value for name, value in vars(chosen).items() if name != "name"})


def _run(name: str, options: Options) -> int:
    print(f"{name}: {options}", flush=True)
    try:
        held = PROGRAMS[name](options)
    except (Leaked, Idle) as fault:
        print(fault)
        held = False
    print(f"{name}: {'every promise held' if held else 'BROKEN'} (seed {options.seed})")
    return 0 if held else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stress", description="Try to break the promises of zoocache.")
    programs = parser.add_subparsers(dest="name", required=True)
    for name, program in PROGRAMS.items():
        about = (sys.modules[program.__module__].__doc__ or "").partition("\n")[0]
        ways = {ON_HOSTS: _add_options_of_hosts} | dict.fromkeys(WITH_SERVER, _add_options_of_one_host)
        ways |= {"killer": _add_options_of_killer}
        add: Callable[[argparse.ArgumentParser], None] = ways.get(name, _add_options)
        options = programs.add_parser(name, help=about, description=about)
        if name in LEAST:
            options.add_argument("--least", type=types.whole(0), default=0, metavar="N",
                                 help=f"do not end before {LEAST[name]}")  # fmt: skip
        add(options)
        if name in WITH_HISTORY:
            options.add_argument("--history", type=types.directory, metavar="DIRECTORY", default="",
                                 help="keep all events in a file there")  # fmt: skip
    judge = programs.add_parser("history", help="judge again the reads that a run with --history kept")
    judge.add_argument("file", type=types.history)
    clean = programs.add_parser("clean", help="end and remove what a run has left whose process was killed")
    clean.add_argument("pid", type=types.whole(1), help="that process")
    planted = programs.add_parser("mutants", help="plant each fault in turn, and tell who caught it")
    planted.add_argument("--only", action="append", choices=MUTANTS, help="this one only; may be repeated")
    planted.add_argument(
        "--seconds", type=types.above_zero, default=table.SECONDS, help="for how long each may go uncaught"
    )
    measure = programs.add_parser("bench", help="how fast it is, beside other caches")
    measure.add_argument("--quick", action="store_true", help="a rough look in less time")
    measure.add_argument("--write", type=Path, metavar="PAGE", help="write the table into this page of documents")
    measure.add_argument("--only", action="append", choices=bench.SECTIONS, help="this section only; may be repeated")
    return parser


def _add_options_of_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", type=types.whole(1, MOST_HOSTS), default=HOSTS, help=f"how many (default {HOSTS})")
    parser.add_argument("--bus", action=argparse.BooleanOptionalAction, default=True, help="whether they hear")
    _add_options(parser, PROCESSES_OF_A_HOST, EVERY_STORAGE)


def _add_options_of_one_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bus", action="store_true", help="whether there is a bus, though nobody else hears")
    _add_options(parser, storages=EVERY_STORAGE)


def _add_options_of_killer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", default="", metavar="ROOM", help="only named points that begin so (default: all)")
    _add_options_of_one_host(parser)


def _add_options(
    parser: argparse.ArgumentParser, processes: int = PROCESSES, storages: Sequence[str] = HOST_STORAGES
) -> None:  # fmt: skip
    add = parser.add_argument
    add(
        "--processes",
        type=types.whole(1, MOST_PROCESSES),
        default=processes,
        help=f"how many at once (default {processes})",
    )
    add("--seconds", type=types.above_zero, default=SECONDS, help=f"for how long (default {SECONDS:g})")
    add("--seed", type=types.whole(0), default=secrets.randbelow(1_000_000), help="of all chance (default: any)")
    add("--storage", choices=storages, default="memory")
    add("--slack", type=types.above_zero, default=1.0, help="multiplies the limits of time, for slow machines")
    add("--mutant", choices=sorted(MUTANTS), default="", help="plant this fault: the run must fail")


if __name__ == "__main__":
    sys.exit(main())
