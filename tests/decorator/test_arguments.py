"""The arguments of a cached function, and what stands for them in its key; methods too."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from tests.decorator.counted import Counted
from zoocache import (
    UnkeyableArgument,
    cacheable,
)

# Arguments.


def test_an_argument_without_a_key_is_named() -> None:
    """The error names the function, the argument, and where in it the trouble is."""

    @cacheable
    def search(text: str, *words: Any, limits: Any = None, **more: Any) -> None: ...

    with pytest.raises(UnkeyableArgument, match=r"search.*'text'.*\(object\)"):
        search(object())  # type: ignore[arg-type]
    with pytest.raises(UnkeyableArgument, match=r"search.*'words'\[1\]"):
        search("a", 1, object())
    with pytest.raises(UnkeyableArgument, match=r'search.*\'limits\'\["a"\]\[1\]'):
        search("a", limits={"a": [1, object()]})
    with pytest.raises(UnkeyableArgument, match=r'search.*\'more\'\["x"\]'):
        search("a", x=object())


def test_a_call_with_an_argument_without_a_key_runs_nothing() -> None:
    """The function does not run, and calls with other arguments work."""
    run = Counted()

    @cacheable
    def get(thing: Any) -> int:
        return run()

    with pytest.raises(UnkeyableArgument):
        get(lambda: run)
    assert 0 == run.runs
    assert 1 == get("fine")


# Methods.


def test_methods_know_their_instance() -> None:
    """Two instances without a value of their own never share; one instance has its entries."""

    class Repository:
        def __init__(self, name: str) -> None:
            self.name, self.runs = name, 0

        @cacheable
        def load(self, key: int) -> tuple[str, int, int]:
            self.runs += 1
            return self.name, key, self.runs

    one, two = Repository("one"), Repository("two")
    assert (("one", 1, 1), ("one", 1, 1)) == (one.load(1), one.load(key=1))
    assert ("two", 1, 1) == two.load(1)
    assert ("one", 1, 1) == Repository.load(one, 1)


def test_an_instance_that_is_gone_is_not_taken_for_another() -> None:
    """An instance at the address of a dead one does not get its entries."""

    class Service:
        def __init__(self, number: int) -> None:
            self.number = number

        @cacheable
        def tell(self) -> int:
            return self.number

    assert list(range(50)) == [Service(number).tell() for number in range(50)]


def test_the_cache_keeps_no_instance_alive() -> None:
    """A method's entries refer to its result, not to `self`."""

    class Service:
        @cacheable
        def tell(self) -> int:
            return 5

    service = Service()
    service.tell()
    service.tell()
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None


@dataclass(frozen=True)
class Point:
    """Has a value, so equal ones share."""

    x: int
    y: int = 0
    runs: list[int] = field(default_factory=list, compare=False)

    @cacheable
    def length(self) -> float:
        CALLS.append(self.x)
        return math.hypot(self.x, self.y)


CALLS: list[int] = []


def test_dataclasses_share_by_value() -> None:
    """Equal dataclass instances are one receiver; another value is another."""
    CALLS.clear()
    assert [5.0, 5.0, 13.0] == [Point(3, 4).length(), Point(3, 4).length(), Point(5, 12).length()]
    assert [3, 5] == CALLS


class Tenant:
    """Tells its own key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    @cacheable
    def plan(self) -> str:
        CALLS.append(1)
        return f"plan of {self.name}"


def test_an_object_with_a_cache_key_shares_by_it() -> None:
    """`__cache_key__` decides who is the same receiver; as an argument too."""
    CALLS.clear()

    @cacheable
    def bill(tenant: Tenant) -> str:
        CALLS.append(2)
        return f"bill for {tenant.name}"

    assert ["plan of a", "plan of a", "plan of b"] == [Tenant(name).plan() for name in "aab"]
    assert ["bill for a", "bill for a", "bill for b"] == [bill(Tenant(name)) for name in "aab"]
    assert [1, 1, 2, 2] == CALLS


class Color(Enum):
    """Members are receivers by name."""

    RED = 1
    BLUE = 2

    @cacheable
    def wave(self) -> tuple[str, int]:
        return self.name, self.value


def test_enum_members_are_receivers() -> None:
    """Each member has its own entries."""
    assert [("RED", 1), ("BLUE", 2), ("RED", 1)] == [Color.RED.wave(), Color.BLUE.wave(), Color.RED.wave()]


class Base:
    """A classmethod, a staticmethod, a property."""

    tag = "base"

    @classmethod
    @cacheable
    def create(cls, n: int) -> tuple[str, int]:
        return cls.tag, n

    @staticmethod
    @cacheable
    def add(a: int, b: int = 1) -> int:
        CALLS.append(a)
        return a + b

    @property
    @cacheable
    def answer(self) -> int:
        CALLS.append(42)
        return 42


class Derived(Base):
    """Inherits them all."""

    tag = "derived"


def test_classmethods_staticmethods_and_properties() -> None:
    """Each works when `cacheable` stands below it; a class method knows its class."""
    CALLS.clear()
    assert [("base", 1), ("derived", 1), ("base", 1)] == [Base.create(1), Derived.create(1), Base().create(1)]
    assert (3, 3, 3) == (Base.add(2), Base().add(2, 1), Derived.add(a=2))
    base = Base()
    assert (42, 42) == (base.answer, base.answer)
    assert [2, 42] == CALLS


def test_super_and_overriding() -> None:
    """A method and the one that overrides it have keys of their own."""

    class Parent:
        @cacheable
        def who(self) -> str:
            return "parent"

    class Child(Parent):
        @cacheable
        def who(self) -> str:
            return f"child of {super().who()}"

    child = Child()
    assert ("child of parent", "child of parent", "parent") == (child.who(), child.who(), Parent.who(child))


class Slotted:
    """Cannot be weakly referenced, and has no value."""

    __slots__ = ()

    @cacheable
    def tell(self) -> int:
        return 1


def test_a_receiver_that_cannot_be_told_is_named() -> None:
    """The error names the method, `self`, and the ways out."""
    with pytest.raises(UnkeyableArgument, match=r"Slotted\.tell.*'self'.*__cache_key__"):
        Slotted().tell()


def test_a_plain_function_whose_parameter_is_called_self() -> None:
    """Outside a class `self` is an argument like any other."""

    @cacheable
    def describe(self: Any) -> str:
        return repr(self)

    assert ("1", "'1'", "True", "1") == (describe(1), describe("1"), describe(True), describe(1))


def test_async_methods() -> None:
    """Coroutine methods work like methods."""

    class Client:
        runs = 0

        @cacheable
        async def fetch(self, key: int) -> int:
            type(self).runs += 1
            await asyncio.sleep(0)
            return key

    async def main() -> list[int]:
        client = Client()
        return [await client.fetch(1), await client.fetch(key=1), await Client().fetch(1)]

    assert [1, 1, 1] == asyncio.run(main())
    assert 2 == Client.runs
