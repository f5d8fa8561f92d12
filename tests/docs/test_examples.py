"""Every Python example of README.md and docs/*.md runs as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.children import Children
from tests.docs.pages import ROOT, SERVER, blocks, pages, scripts

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]
SKIPPED = [
    pytest.param(block.reason, id=f"{page.relative_to(ROOT)}:{block.line}")
    for page in pages()
    for block in blocks(page.read_text())
    if block.mark == "skip"
]


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: Path, children: Children, tmp_path: Path, redis_url: str) -> None:
    """The examples of a page run in their order, in a process and an empty directory of their own."""
    script = tmp_path / f"{page.stem}.py"
    for text in scripts(page.read_text()):
        script.write_text(text.replace(SERVER, redis_url))
        children.script(script, cwd=tmp_path).output()


@pytest.mark.parametrize("reason", SKIPPED)
def test_skipped_examples_say_why(reason: str) -> None:
    """An example that does not run here names its reason, and shows in the summary of every run."""
    assert reason, "write <!-- skip: why -->"
    pytest.skip(reason)
