"""`zoocache.identity`: one function, one identity in every process; two functions, two identities."""

from __future__ import annotations

import functools
import importlib
import math
import operator
import shutil
import sys
import textwrap
import zipapp
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tests.children import Children
from tests.closures import factory
from tests.specimens import Color, Plain, Point, function
from zoocache.errors import NotCacheable
from zoocache.identity import function_identity, module_name


def copy_of(fn: Any) -> Any:
    """Another definition of the same text: what a module that is loaded again holds."""
    copy = FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    copy.__qualname__ = fn.__qualname__  # before 3.11 the code does not tell
    return copy


def twice(fn: Callable[..., Any], times: int = 2) -> Callable[..., Any]:
    """A decorator of the usual form."""

    @functools.wraps(fn)
    def wrapper(*args: Any) -> list[Any]:
        return [fn(*args) for _ in range(times)]

    return wrapper


class Proxy:
    """Says that it is what it stands for, as the wrappers of some libraries do."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fn, name)

    def __hash__(self) -> int:
        return hash(self.fn)

    def __eq__(self, other: object) -> bool:
        return bool(self.fn == other)

    def __call__(self) -> list[Any]:
        return [self.fn()]


class Base:
    def method(self) -> str:
        return "base"


class Derived(Base):
    def method(self) -> str:
        return super().method()

    plain = factory(1)


def local_class(base: type) -> type:
    """Classes of one name, of which `super()` means different things."""

    class Local(base):  # type: ignore[misc]
        def method(self) -> str:
            return str(super().method())

    return Local


@pytest.fixture
def new_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Writes a module, again and again, and loads what was written last."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"module_{tmp_path.name}"

    def load(text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    wrote = sys.dont_write_bytecode
    yield load
    sys.dont_write_bytecode = wrote
    sys.modules.pop(name, None)


def test_a_function_of_a_module_is_known_by_its_name() -> None:
    """A function that stands in a module or in a class of it is `module:qualname`, `super()` or not."""
    assert f"{__name__}:copy_of" == function_identity(copy_of)
    assert f"{__name__}:Base.method" == function_identity(Base.method)
    assert f"{__name__}:Derived.method" == function_identity(Derived.method)
    assert "math:sqrt" == function_identity(math.sqrt)


def test_defaults_do_not_matter() -> None:
    """Defaults reach the key as arguments, so they are no part of the identity."""
    other = copy_of(twice)
    other.__defaults__ = (3,)
    assert function_identity(twice) == function_identity(other)


def test_the_same_code_again_is_the_same_function(new_module: Callable[[str], Any]) -> None:
    """A module that is loaded again keeps its functions' identities though lines moved; a changed function does not."""
    first = function_identity(new_module("def f(): return 1").f)
    assert first == function_identity(new_module("\n\n# moved\ndef f(): return 1").f)
    changed = function_identity(new_module("def f(): return 2").f)
    assert changed.startswith(f"{first}#")
    assert changed == function_identity(new_module("def f(): return 2").f)
    assert first == function_identity(new_module("def f(): return 1").f)


@pytest.mark.parametrize(
    "pair",
    [
        ("return 1", "return 2"),
        ("return 1", "return 1.0"),
        ("return 1", "return True"),
        ("return 0.0", "return -0.0"),
        ("return 'a'", "return b'a'"),
        ("return (1, 2)", "return (1, 3)"),
        ("return x.a", "return x.b"),
        ("return x in {1, 2}", "return x in {1, 3}"),
        ("return lambda: 1", "return lambda: 2"),
        ("return [y for y in x if y]", "return [y for y in x if not y]"),
        ("return x + 1", "return x - 1"),
        ("return len(x)", "return max(x)"),
        ("yield x", "return x"),
        ("try:\n        x()\n    except KeyError: pass", "try:\n        x()\n    except ValueError: pass"),
    ],
)
def test_other_code_is_another_function(pair: tuple[str, str], new_module: Callable[[str], Any]) -> None:
    """Two definitions under one name that differ in anything they do have two identities."""
    identities = {function_identity(new_module(f"def f(x):\n    {body}\n").f) for body in pair}
    assert 2 == len(identities)


def test_two_lambdas_are_two_functions() -> None:
    """Lambdas share a name, and are told apart by their code."""
    one, other = (lambda x: x + 1), (lambda x: x + 2)
    assert function_identity(one) != function_identity(other)
    assert function_identity(one) == function_identity(copy_of(one))


CONTENTS: list[Any] = [
    None, 1, True, 1.0, "1", b"1", (), (1,), ((1,), 2), frozenset({1}), frozenset({1, "2"}), 10**5000,
    Color.RED, Color.GREEN, int, Point, len, function, operator, math, factory(1), factory(2), factory(factory(1)),
    twice(function), twice(twice(function)), twice(function, 3), lambda: 1, lambda: 2, lambda x=1: x, lambda x=2: x,
    lambda *, x=1: x, lambda *, x=2: x,
]  # fmt: skip


def test_closures_over_different_things_are_different_functions() -> None:
    """Closures of one name are told apart by what they close over, in type and value."""
    identities = [function_identity(factory(content)) for content in CONTENTS]
    assert len(CONTENTS) == len(set(identities))
    assert not any("#@" in identity for identity in identities)


def test_closures_over_the_same_things_are_one_function() -> None:
    """A closure that is made again over equal contents has the identity of the first."""
    for content in CONTENTS:
        assert function_identity(factory(content)) == function_identity(factory(content))


@pytest.mark.parametrize("content", [[1], {}, {1}, Plain(), object(), (1, [2]), Point(1), functools.partial(len)])
def test_a_closure_over_what_can_change_is_one_of_its_kind(content: Any) -> None:
    """A closure over anything mutable or unknown has an identity of its own for each definition, and keeps it."""
    one, other = factory(content), factory(content)
    assert function_identity(one) != function_identity(other)
    assert function_identity(one) == function_identity(one)
    assert "#@" in function_identity(one)


def test_a_cell_that_is_still_empty_is_not_guessed() -> None:
    """A function that refers to a name of its surroundings that has no value yet shares its entries with nobody."""

    def early() -> Any:
        return late

    identity = function_identity(early)
    late = 1
    assert early() == late
    assert "#@" in identity
    assert identity == function_identity(early)


def test_functions_that_refer_to_each_other_come_to_an_end() -> None:
    """Recursion among local functions is no endless recursion for us."""

    def make(number: int) -> Callable[[int], Any]:
        def even(n: int) -> Any:
            return number if n == 0 else odd(n - 1)

        def odd(n: int) -> Any:
            return -number if n == 0 else even(n - 1)

        return even

    assert function_identity(make(1)) == function_identity(make(1))
    assert function_identity(make(1)) != function_identity(make(2))


def test_super_in_local_classes_is_not_mistaken() -> None:
    """Methods of local classes of one name, whose `super()` differ, have different identities."""
    one, other = local_class(Base), local_class(Derived)
    assert function_identity(one.method) != function_identity(other.method)


def test_a_decorated_function_counts_with_its_decorators() -> None:
    """What `functools.wraps` dressed up as a function is not that function."""
    dressed = [twice(function), twice(function, 3), function, twice(copy_of)]
    assert 4 == len({function_identity(each) for each in dressed})
    assert function_identity(dressed[0]).startswith(f"{function.__module__}:function#")


def test_a_proxy_is_not_what_it_stands_for() -> None:
    """A function and its proxies, which claim to be equal to it, have an identity each, in closures too."""
    one, other = Proxy(function), Proxy(function)
    assert 3 == len({function_identity(each) for each in (function, one, other)})
    assert function_identity(one) == function_identity(one)
    assert "#@" in function_identity(one)
    assert "#@" in function_identity(factory(one))


def test_code_in_globals_of_its_own_is_shared_with_nobody() -> None:
    """The same text, run by `exec` in two namespaces, makes two functions."""
    made: list[Any] = []
    for number in (1, 2):
        namespace: dict[str, Any] = {"__name__": "made", "number": number}
        exec("def f(): return number", namespace)  # noqa: S102  # what is tested
        made.append(namespace["f"])
    assert function_identity(made[0]) != function_identity(made[1])
    assert function_identity(made[0]) == function_identity(made[0])


@pytest.mark.parametrize("thing", [functools.partial(len), Base().method, [].append, Base, 5, Plain()])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    """Only functions have an identity; the error says what to do instead."""
    with pytest.raises(NotCacheable, match="wrap it in a function"):
        function_identity(thing)


SETS = """
    import sys
    from zoocache.identity import function_identity
    def outer(words):
        def inner(x):
            return x in {"a", "b", "c", "d", "e"} or [y for y in x if y in ("f", "g") or y in words]
        return inner
    print(function_identity(outer(frozenset("hijklmnop"))))
"""


def test_identities_do_not_depend_on_the_process(children: Children, tmp_path: Path) -> None:
    """Processes with different hash seeds agree, also about constant sets in the code and in closures."""
    script = tmp_path / "sets.py"
    script.write_text(textwrap.dedent(SETS))
    running = [children.script(script, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2", "3")]
    assert 1 == len({child.output() for child in running})


NAMELESS = """
    import os, sys
    from zoocache.identity import function_identity
    from tests.closures import factory
    def f(): return g()
    def g(): return 1
    def outer(content):
        def inner(): return content
        return inner
    main = sys.modules["__main__"]
    functions = [f, outer(1), outer(outer(1)), factory(f), factory(outer(1)), factory(main), lambda: 1]
    mine = list(map(function_identity, functions))
    if not (pid := os.fork()):
        os._exit(mine != list(map(function_identity, functions)))
    assert not os.waitpid(pid, 0)[1]
    first = f
    def f(): return g()
    assert function_identity(first) == function_identity(f)
    print(*mine, flush=True)
"""
WAYS = ['{python} -c "$0"', 'echo "$0" | {python} -', 'echo "$0" > $1; {python} - < $1; rm $1',
        '{python} <(echo "$0")', 'echo "$0" > $1; (rm $1; {python} /dev/stdin) < $1']  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("way", WAYS)
def test_programs_without_a_file_share_with_their_forks_only(way: str, tmp_path: Path, children: Children) -> None:
    """A program that no file names shares its functions with forked children, and not with another of its code."""
    command = ["bash", "-c", way.format(python=sys.executable), textwrap.dedent(NAMELESS), str(tmp_path / "text")]
    identities = [identity for _ in range(2) for identity in children.command(command, cwd=tmp_path).output().split()]
    assert 14 == len(identities) == len(set(identities))
    assert identities[0].startswith("__main__:f#")


def test_an_archive_that_is_run_is_known_by_its_file(children: Children, tmp_path: Path) -> None:
    """`python archive.pyz` runs a program that its file names, though no such path is on the disk."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/__main__.py").write_text(
        "from zoocache.identity import function_identity\ndef f(): pass\nprint(function_identity(f))"
    )
    zipapp.create_archive(tmp_path / "source", tmp_path / "program.pyz")
    assert f"{tmp_path.resolve()}/program.pyz/__main__.py:f\n" == children.script(tmp_path / "program.pyz").output()


MAIN = """
    import multiprocessing, sys
    from zoocache.identity import function_identity

    class Kind:
        def method(self): return super().__repr__()

    def outer(content):
        def inner(): return content
        return inner

    def f(): pass

    FUNCTIONS = [f, Kind.method, outer(1), outer(Kind), outer(f), outer((1, frozenset("abc"))), lambda: 1]
    EARLY = [function_identity(each) for each in FUNCTIONS]

    def tell():
        assert EARLY == [function_identity(each) for each in FUNCTIONS]
        print(__name__, *EARLY, flush=True)

    if __name__ == "__main__":
        tell()
        for method in ("spawn", "forkserver", "fork"):
            child = multiprocessing.get_context(method).Process(target=tell)
            child.start()
            child.join(60)
            assert child.exitcode == 0
"""


def names_and_identities(output: str) -> tuple[set[str], set[str]]:
    """What the processes of `MAIN` were called, and what they said."""
    lines = [line.split(" ", 1) for line in output.splitlines()]
    assert 4 == len(lines)
    return {name for name, _ in lines}, {said for _, said in lines}


def test_a_script_is_one_program_in_all_its_processes(children: Children, tmp_path: Path) -> None:
    """A script's functions are the same in its spawned and forked children, and other than those of another script."""
    said = []
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(textwrap.dedent(MAIN))
        names, identities = names_and_identities(children.script(tmp_path / name).output())
        assert {"__main__", "__mp_main__"} == names
        assert 1 == len(identities)
        said.append(identities.pop())
    assert said[0].startswith(f"{(tmp_path / 'one.py').resolve()}:f ")
    assert said[0] != said[1]


def test_a_script_is_known_by_its_real_path(children: Children, tmp_path: Path) -> None:
    """However a script is reached, by a link or from its own directory, its functions keep their names."""
    script, link = tmp_path / "script.py", tmp_path / "link.py"
    script.write_text("from zoocache.identity import function_identity\ndef f(): pass\nprint(function_identity(f))")
    link.symlink_to(script)
    ways = [children.script(script), children.script(link), children.script(Path("script.py"), cwd=tmp_path)]
    assert {f"{script.resolve()}:f\n"} == {child.output() for child in ways}


def test_a_module_run_with_m_is_that_module(children: Children, tmp_path: Path) -> None:
    """`python -m package.module` names its functions as an import of that module does."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(textwrap.dedent(MAIN))
    run = "import runpy; runpy.run_module('package.module', run_name='__main__', alter_sys=True)"
    imported = "import package.module; package.module.tell()"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"}
    names, identities = names_and_identities(children.code(run, env=env).output())
    assert {"__main__", "__mp_main__"} == names
    assert 1 == len(identities)
    said = children.code(imported, env=env).output().split(" ", 1)[1].strip()
    assert {said} == identities
    assert said.startswith("package.module:f ")


def test_a_directory_that_is_run_is_known_by_its_file(children: Children, tmp_path: Path) -> None:
    """`python directory` has a spec that names nothing; the file does."""
    (tmp_path / "__main__.py").write_text(
        "from zoocache.identity import function_identity\ndef f(): pass\nprint(function_identity(f))"
    )
    assert f"{tmp_path.resolve()}/__main__.py:f\n" == children.script(tmp_path).output()


def test_a_forked_child_inherits_the_random_ones(children: Children) -> None:
    """A definition that is shared with no unrelated process is shared with forked children."""
    child = children.code("""
        import os
        from zoocache.identity import function_identity
        def outer(content):
            def inner(): return content
            return inner
        f = outer([])
        mine = function_identity(f)
        read, write = os.pipe()
        if not (pid := os.fork()):
            os.write(write, function_identity(f).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        print(mine == os.read(read, 500).decode(), mine)
    """)
    same, mine = child.output().split()
    assert "True" == same
    assert "#@" in mine


def test_a_modules_name_is_what_the_import_system_says() -> None:
    """Imported modules are named as they are imported, an alias by what it stands for, an unknown one by itself."""
    assert __name__ == module_name(__name__)
    assert "posixpath" == module_name("os.path")
    assert "never.imported" == module_name("never.imported")
