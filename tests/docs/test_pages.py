"""`tests.docs.pages`: what makes examples into scripts is itself to be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.children import Children
from tests.docs.pages import Block, blocks, scripts

PAGE = """\
# Title

```python
x = 1
```

Text, and something that is no example:

```bash
x = 3
```

<!-- skip: it needs the moon -->

```python
raise SystemExit("skipped")
```

1. In a list:

   ```python
   assert x == 1
   y = 2
   ```

```python
>>> x + y
3
>>> z = 5
```

```python
assert z == 5
```

<!-- new process -->
```python
assert "x" not in globals()
```
"""


def test_blocks() -> None:
    """Every Python block of a page is found, with its line, its code, and what the comment before it says."""
    found = list(blocks(PAGE))
    assert [
        Block(4, ["x = 1"], "", ""),
        Block(16, ['raise SystemExit("skipped")'], "skip", "it needs the moon"),
    ] == found[:2]
    assert [4, 16, 22, 27, 33, 38] == [block.line for block in found]
    assert "new process" == found[-1].mark


def test_a_mark_belongs_to_the_block_below_it() -> None:
    """A comment with text between it and the block marks nothing."""
    assert [""] == [block.mark for block in blocks("<!-- skip: x -->\ntext\n```python\n1\n```\n")]


def test_scripts_keep_the_lines_of_the_page() -> None:
    """The lines of a script have the numbers that they have in the page."""
    first, second = (script.splitlines() for script in scripts(PAGE))
    assert ("x = 1", "assert x == 1", "y = 2") == (first[3], first[21], first[22])
    assert 'assert "x" not in globals()' == second[37]
    assert not any("skipped" in line for line in first + second)


def test_scripts_run(children: Children, tmp_path: Path) -> None:
    """The blocks of a page share their names, conversations too, up to a new process."""
    for number, text in enumerate(scripts(PAGE)):
        script = tmp_path / f"{number}.py"
        script.write_text(text)
        assert 0 == children.script(script).wait()


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("\n\n```python\nx = 1\n1 / 0\n```\n", "line 5, in <module>"),
        ("\n```python\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("\n```python\n>>> 1 / 0\n1\n```\n", "ZeroDivisionError"),
    ],
)
def test_a_wrong_example_fails(page: str, fault: str, children: Children, tmp_path: Path) -> None:
    """An example that raises, or answers otherwise than the page says, fails and names its place."""
    script = tmp_path / "page.py"
    script.write_text(scripts(page)[0])
    child = children.script(script)
    assert 1 == child.wait()
    assert fault in child.errors()
