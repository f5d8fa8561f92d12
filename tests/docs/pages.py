"""The Python examples of a page of documents, made into scripts.

A block that begins with ```python is an example. The blocks of a page are one script, in their order, its lines where
they stand in the page, so that a traceback names the line of the document. A comment on a line of its own before a
block says how it is meant:

    <!-- skip: it needs a database -->    not run; the reason is listed
    <!-- new process -->                  begins another run of the script, in another process of the same cache

Where a page names the server SERVER, the test's own stands in its place.

A block that begins with `>>>` is a conversation, held by doctest among the names of the script.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SERVER = "redis://localhost:6379/0"
ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```python\b[^\n]*$")
_MARK = re.compile(r"^<!-- (?P<mark>skip|new process)(?:: *(?P<reason>.*?))? *-->$")


class Block(NamedTuple):
    """One example.

    Attributes:
        line: the number of its first line of code in the page.
        code: its lines, without the page's indentation.
        mark: `skip`, `new process`, or empty.
        reason: what the mark says behind a colon.
    """

    line: int
    code: list[str]
    mark: str
    reason: str


def pages() -> list[Path]:
    """README.md, then the pages of docs/."""
    return [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]


def blocks(text: str) -> Iterator[Block]:
    """The examples of a page, the skipped ones too."""
    lines = text.splitlines()
    mark, number = None, 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if not fence:
            if lines[number].strip():
                mark = _MARK.match(lines[number].strip())
            number += 1
            continue
        end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == "```")
        code = [line[len(fence["indent"]) :] for line in lines[number + 1 : end]]
        yield Block(number + 2, code, mark["mark"] if mark else "", (mark["reason"] or "") if mark else "")
        mark, number = None, end + 1


def scripts(text: str) -> list[str]:
    """The scripts that the examples of a page make, without the skipped ones; each line where it is in the page."""
    made: list[list[str]] = []
    for block in blocks(text):
        if block.mark == "skip":
            continue
        if block.mark == "new process" or not made:
            made.append([])
        made[-1] += [""] * (block.line - 1 - len(made[-1])) + _runnable(block)
    return ["\n".join(lines) + "\n" for lines in made]


def converse(text: str, line: int, names: dict[str, Any]) -> None:
    """Hold a conversation among these names; what differs from the page is an AssertionError."""
    test = doctest.DocTestParser().get_doctest(text, names, f"the example at line {line}", None, line - 1)
    test.globs = names  # not the copy: what it defines, later blocks may use
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert not results.failed, "".join(said)


def _runnable(block: Block) -> list[str]:
    if not "".join(block.code).lstrip().startswith(">>>"):
        return block.code
    text = "\n".join(block.code) + "\n"
    call = f"__import__('tests.docs.pages', fromlist=['pages']).converse({text!r}, {block.line}, globals())"
    return [call] + [""] * (len(block.code) - 1)
