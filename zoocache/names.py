"""Names: what a module, a class or a function is called, the same in every process, and the way back.

A name is `module:qualname`. The module's part is what the import system calls it; where the import system was not
asked (a script, which is `__main__` here and `__mp_main__` in the children of multiprocessing) it is the real path of
the file, so that two scripts never share a name and a script keeps its own in all its processes.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

_MAINS = ("__main__", "__mp_main__")
NAMELESS = "__main__"
"""The name of a main program that no file and no import names: each of them has it."""

# What `module_name` said of the module that was loaded under a name; each entry is written whole. Another module under
# the name is asked anew: in a spawned child the main module is replaced while it starts.
_module_names: dict[str, tuple[ModuleType | None, str]] = {}


def is_loaded(name: object, namespace: dict[str, Any]) -> bool:
    """Whether these are the globals of the module that is loaded under that name."""
    return isinstance(name, str) and getattr(sys.modules.get(name), "__dict__", None) is namespace


def namespace_name(namespace: dict[str, Any]) -> str | None:
    """The name of the module that has these globals.

    Args:
        namespace: a module's `__dict__`, or a function's `__globals__`.

    Returns:
        What the import system calls it, or the real path of its file; None if it is known to no other process, but
        those forked from it: a program from standard input or `-c`, a notebook, code that was given to `exec` with
        globals of its own.
    """
    own = namespace.get("__name__")
    is_main = own in _MAINS  # in a spawned child the functions' globals are not the module's, but a copy of them
    if not is_main and not is_loaded(own, namespace):
        return None
    name: str | None = getattr(namespace.get("__spec__"), "name", None)
    if name is not None and name not in _MAINS:  # a directory or zip file that was run has a spec named `__main__`
        return name
    file = namespace.get("__file__")
    if isinstance(file, str) and _lies_in_a_file(path := os.path.realpath(file)):
        return path
    return None if is_main else str(own)


def _lies_in_a_file(path: str) -> bool:
    """Whether a path is that of a file or leads into one (an archive that is run), and not to a pipe or to nothing.

    A program from standard input calls its file `<stdin>`; one from a here-document or a pipe that the shell named is
    below /dev/fd, or in a file that was removed before it was read.
    """
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.path.isfile(path)


def module_name(name: str) -> str:
    """The name that a module has in every process.

    Args:
        name: its name in this process, as in `__module__`.

    Returns:
        `__spec__.name` where it was imported or run with `-m`, the real path of the file of a script, and
        `__main__` for a main program without a file.
    """
    module = sys.modules.get(name)
    known = _module_names.get(name)
    if known is None or known[0] is not module:
        stable = None if module is None else namespace_name(vars(module))
        known = _module_names[name] = module, stable or (NAMELESS if name in _MAINS else name)
    return known[1]


def name_of(thing: Any) -> str | None:
    """The name under which `thing` is found again.

    Args:
        thing: a class or a function.

    Returns:
        `module:qualname`, if that leads back to this very object here; None for what is local to a function, was
        redefined or deleted since, or has no name.
    """
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    stable = module_name(module)
    holder = _loaded(stable)
    return f"{stable}:{qualname}" if holder is not None and _member(holder, qualname) is thing else None


def find(name: str) -> Any:
    """What `name_of` named, here or in another process. It imports the module of that name if need be, and no other.

    Args:
        name: `module:qualname`.

    Returns:
        The class or function; the caller checks that it is of the kind it expects.

    Raises:
        LookupError: there is no such module, or it holds no such thing.
        Exception: whatever that module raises when it is imported.
    """
    module, _, qualname = name.rpartition(":")
    holder = _loaded(module)
    if holder is None:
        if not all(part.isidentifier() for part in module.split(".")):
            raise LookupError(f"no module {module!r} in this process")
        holder = importlib.import_module(module)
    thing = _member(holder, qualname)
    if thing is None:
        raise LookupError(f"module {module!r} has no {qualname!r}")
    return thing


def _loaded(module: str) -> ModuleType | None:
    """The loaded module of that stable name; the main program first, for `python -m` may run what is also imported."""
    for main in _MAINS:  # while the main program of a spawned child is being loaded, only the second is what it will be
        if module == module_name(main) and main in sys.modules:
            return sys.modules[main]
    return sys.modules.get(module)


def _member(holder: ModuleType, qualname: str) -> Any:
    """The class or function under a dotted name. On the way only classes are entered: no instance runs its code."""
    if "." not in qualname:
        return getattr(holder, qualname, None)
    thing: Any = holder
    for part in qualname.split("."):
        if thing is not holder and not isinstance(thing, type):
            return None
        thing = getattr(thing, part, None)
    return thing
