"""Footprint: what an import costs and brings along, and the memory of an idle process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from stress.bench.place import Place, opened
from stress.bench.table import Row, duration, limit
from stress.bench.timing import Effort

IMPORT_NS = 50e6
IDLE_MB = 5.0
WARMED = 3
"""The first process compiles what it imports, which takes memory of its own."""
LATER = ("redis", "lmdb")
"""Not to be imported before they are needed."""
HEAVY = ("asyncio", "msgpack", "posix_ipc", "inspect", "logging", "hashlib", *LATER)

_PRIVATE = """
def private_kb():
    total, counts = 0, True
    for line in open("/proc/self/smaps"):
        first = line.split(None, 1)[0]
        if not first.endswith(":"):
            counts = "/dev/shm/" not in line and ".mdb" not in line
        elif counts and first in ("Private_Clean:", "Private_Dirty:"):
            total += int(line.split()[1])
    return total
"""
_IDLE = """
import json, zoocache
zoocache.configure(**json.loads(arguments))
@zoocache.cacheable(deps="idle")
def one(key): return key
one(1), one(1), zoocache.invalidate("idle")
"""


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    with opened() as place:
        plain_mb = _private_mb("import json", place, "memory")
        return [
            *_import_rows(_environment(place), effort),
            _idle(place, "memory", "memory", plain_mb),
            _idle(place, "lmdb", "LMDB", plain_mb),
        ]


def _import_rows(env: dict[str, str], effort: Effort) -> list[Row]:
    plain_ns, import_ns = _least_ns(["pass", "import zoocache"], env, effort.samples // 8)
    modules = _modules(env)
    heavy = ", ".join(name for name in HEAVY if name in modules)
    beside = f"python -c pass {duration(plain_ns)}"
    return [
        limit("import zoocache, beyond plain Python", import_ns - plain_ns, IMPORT_NS, beside),
        Row(
            "modules that the import brings", f"{len(modules)}, {heavy} among them", "", "",
            f"not {' or '.join(LATER)}", "no" if set(LATER) & set(modules) else "yes",
        ),
    ]  # fmt: skip


def _environment(place: Place) -> dict[str, str]:
    """The usual one, where bytecode is kept as it is for an installed package, and beside the sources it is not."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(place.directory / "bytecode")}


def _least_ns(statements: list[str], env: dict[str, str], samples: int) -> list[float]:
    """The least CPU time of an interpreter that runs each; what else the machine does adds nothing to it."""
    best = [float("inf")] * len(statements)
    for _ in range(samples + 1):
        for place, statement in enumerate(statements):
            best[place] = min(best[place], _cpu_ns([sys.executable, "-c", statement], env))
    return best


def _cpu_ns(command: list[str], env: dict[str, str]) -> float:
    pid = os.posix_spawn(command[0], command, env)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, command
    return (usage.ru_utime + usage.ru_stime) * 1e9


def _modules(env: dict[str, str]) -> list[str]:
    """What `import zoocache` imports beyond plain Python."""
    code = "import sys, json; before = set(sys.modules); import zoocache; print(json.dumps([*{*sys.modules} - before]))"
    found: list[str] = json.loads(_output(code, env))
    return found


def _idle(place: Place, storage: str, title: str, plain_mb: float) -> Row:
    beyond = _private_mb(_IDLE, place, storage) - plain_mb
    return Row(
        f"private memory of an idle process, {title}, beyond plain Python", f"{beyond:.1f} MB",
        f"plain Python {plain_mb:.1f} MB", "", f"≤ {IDLE_MB:g} MB", "yes" if beyond <= IDLE_MB else "no",
    )  # fmt: skip


def _private_mb(code: str, place: Place, storage: str) -> float:
    arguments = json.dumps(place.settings(storage))
    whole = f"arguments = {arguments!r}\n{code}\n{_PRIVATE}\nprint(private_kb())"
    return min(int(_output(whole, _environment(place))) for _ in range(WARMED)) / 1024


def _output(code: str, env: dict[str, str]) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout
