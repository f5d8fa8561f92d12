"""The library's own source, parsed: what the structural tests look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "zoocache"

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


class Import(NamedTuple):
    """One imported module, as absolute dotted name, and the line where it is imported."""

    name: str
    line: int


class Source:
    """One file of the library.

    Attributes:
        path: where it lies.
        name: relative to the repository, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def text(self) -> str:
        """The file's text."""
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        """The file, parsed."""
        return ast.parse(self.text, self.name)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All that stands in the file."""
        return list(ast.walk(self.tree))

    @property
    def room(self) -> str:
        """The package's first level: `shm` for `zoocache/shm/lock.py`, `trie` for `zoocache/trie.py`."""
        return Path(self.path.relative_to(PACKAGE).parts[0]).stem

    def imports(self) -> Iterator[Import]:
        """Every module that is imported anywhere in the file, in functions and under TYPE_CHECKING too."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}:{node.lineno}: imports are absolute"
                assert node.module
                yield from (Import(f"{node.module}.{alias.name}", node.lineno) for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """Every function of the file, nested ones too."""
        return (node for node in self.nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes that run in the frame of a function: not those of functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def last_name(node: ast.AST) -> str:
    """`_leave` of `self._leave(fd)`, of `self._leave` and of `_leave`; empty for what has no name."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


SOURCES = [Source(path) for path in sorted(PACKAGE.rglob("*.py"))]
