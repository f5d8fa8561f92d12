"""What the user guide shows works as it is shown there, as far as one host goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.children import Children


class Table:
    """A place that answers by key and remembers how often it was asked."""

    def __init__(self) -> None:
        self.rows: dict[Any, str] = {}
        self.asked: list[Any] = []

    def fetch(self, key: Any) -> str:
        """The row of a key."""
        self.asked.append(key)
        return self.rows.get(key, "empty")


@pytest.fixture
def table() -> Table:
    """An empty table."""
    return Table()


@pytest.fixture(params=["memory", "lmdb"])
def configured(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The cache, in each of the storages that one host has."""
    zoocache.configure(storage_url=None if request.param == "memory" else f"lmdb://{tmp_path}/cache")
    return str(request.param)


@pytest.mark.usefixtures("configured")
def test_the_second_call_is_answered_by_the_cache(table: Table) -> None:
    """A function runs once for an argument until its tag is invalidated, and then sees the new data."""

    @zoocache.cacheable(deps=lambda user_id: [f"user:{user_id}"])
    def get_user(user_id: int) -> str:
        return table.fetch(user_id)

    assert ["empty", "empty"] == [get_user(42), get_user(42)]
    assert [42] == table.asked
    table.rows[42] = "Ada"
    zoocache.invalidate("user:42")
    assert ["Ada", "Ada"] == [get_user(42), get_user(42)]
    assert [42, 42] == table.asked


@pytest.mark.usefixtures("configured")
def test_a_parent_kills_all_below(table: Table) -> None:
    """One invalidation of `org:1` reaches every user of org 1, and nobody of org 10 or org 2."""

    @zoocache.cacheable(deps=lambda org_id, user_id: [f"org:{org_id}:user:{user_id}"])
    def get_org_user(org_id: int, user_id: int) -> str:
        return table.fetch((org_id, user_id))

    calls = [(1, 100), (1, 200), (1, 300), (2, 100), (10, 100)]
    for org_and_user in calls:
        get_org_user(*org_and_user)
    table.asked.clear()
    zoocache.invalidate("org:1")
    for org_and_user in calls:
        get_org_user(*org_and_user)
    assert calls[:3] == table.asked


@pytest.mark.usefixtures("configured")
def test_a_child_leaves_its_parent_and_siblings(table: Table) -> None:
    """An invalidation goes down, never up or sideways."""

    @zoocache.cacheable(deps=lambda tag: [tag])
    def read(tag: str) -> str:
        return table.fetch(tag)

    tags = ["org:1", "org:1:team:a", "org:1:team:a:user:1", "org:1:team:b", "org:1:team:b:user:3"]
    for tag in tags:
        read(tag)
    table.asked.clear()
    zoocache.invalidate("org:1:team:a")
    for tag in tags:
        read(tag)
    assert ["org:1:team:a", "org:1:team:a:user:1"] == table.asked


def test_every_option_of_the_guide_that_one_host_has(tmp_path: Path, prefix: str) -> None:
    """`configure` takes all options together, twice the same, and refuses other ones afterwards."""
    options: dict[str, Any] = {
        "storage_url": f"lmdb://{tmp_path}/cache",
        "bus_url": None,
        "prefix": prefix,
        "default_ttl": 3600,
        "read_extend_ttl": True,
        "prune_after": 86400,
    }
    zoocache.configure(**options)
    zoocache.configure(**options)
    with pytest.raises(zoocache.errors.AlreadyConfigured):
        zoocache.configure(**{**options, "default_ttl": 60})


def test_the_configuration_with_a_bus(tmp_path: Path, redis_url: str, prefix: str) -> None:
    """Entries in LMDB, a bus through Redis, and everything else that the guide's example gives."""
    zoocache.configure(
        storage_url=f"lmdb://{tmp_path}/cache_data", bus_url=redis_url, prefix=prefix, default_ttl=3600,
        read_extend_ttl=True, prune_after=86400,
    )  # fmt: skip
    zoocache.set("k", 1, deps=["org:1"])
    zoocache.invalidate("org:1")
    assert zoocache.get("k") is None


def test_distributed_mode(redis_url: str, prefix: str) -> None:
    """Entries and invalidations through one Redis."""
    zoocache.configure(storage_url=redis_url, bus_url=redis_url, prefix=prefix)
    zoocache.set("k", 1, deps=["org:1"])
    assert 1 == zoocache.get("k")
    zoocache.invalidate("org:1")
    assert zoocache.get("k") is None


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("deps", [["global:settings", "feature:flags"], ("global:settings", "feature:flags")])
def test_static_dependencies(deps: Any, table: Table) -> None:
    """A fixed list of tags holds for every call, and each of them invalidates."""

    @zoocache.cacheable(deps=deps)
    def get_config() -> str:
        return table.fetch("config")

    get_config()
    for number, tag in enumerate(["global:settings", "feature", "feature:flags"], start=2):
        zoocache.invalidate(tag)
        get_config()
        get_config()
        assert number == len(table.asked)


@pytest.mark.usefixtures("configured")
def test_dependencies_from_elsewhere(table: Table) -> None:
    """A callable may name tags that do not come from the arguments."""

    def current_store() -> str:
        return "oslo"

    @zoocache.cacheable(deps=lambda pid: [f"product:{pid}", f"store:{current_store()}"])
    def get_product(pid: int) -> str:
        return table.fetch(pid)

    get_product(7)
    zoocache.invalidate("store:bergen")
    get_product(7)
    assert [7] == table.asked
    zoocache.invalidate("store:oslo")
    get_product(7)
    assert [7, 7] == table.asked


@pytest.mark.usefixtures("configured")
def test_dependencies_that_show_inside(table: Table) -> None:
    """Tags that `add_deps` names while the function runs invalidate its result."""
    table.rows.update({"boss": "admin", "reports": "ten"})

    @zoocache.cacheable()
    def get_dashboard(user_id: str) -> dict[str, str]:
        user = table.fetch(user_id)
        zoocache.add_deps([f"user:{user_id}"])
        if user != "admin":
            return {"user": user}
        zoocache.add_deps(["reports:admin"])
        return {"user": user, "reports": table.fetch("reports")}

    assert ({"user": "admin", "reports": "ten"}, {"user": "empty"}) == (get_dashboard("boss"), get_dashboard("kim"))
    table.asked.clear()
    zoocache.invalidate("reports")
    get_dashboard("boss")
    get_dashboard("kim")
    assert ["boss", "reports"] == table.asked
    zoocache.invalidate("user:kim")
    get_dashboard("boss")
    get_dashboard("kim")
    assert ["boss", "reports", "kim"] == table.asked


@pytest.mark.usefixtures("configured")
def test_dependencies_in_a_loop(table: Table) -> None:
    """`add_deps` may be called many times in one run."""

    @zoocache.cacheable()
    def search(words: str) -> list[str]:
        for number in range(5):
            zoocache.add_deps([f"entity:book:{number}"])
        return [table.fetch(words)]

    search("x")
    zoocache.invalidate("entity:book:9")
    search("x")
    assert 1 == len(table.asked)
    zoocache.invalidate("entity:book:4")
    search("x")
    assert 2 == len(table.asked)


@pytest.mark.usefixtures("configured")
def test_sync_and_async(table: Table) -> None:
    """The decorator takes functions and coroutine functions, with a namespace and shared tags."""

    @zoocache.cacheable(namespace="api", deps=["data"])
    def plain(key: str) -> str:
        return table.fetch(key)

    @zoocache.cacheable(namespace="api", deps=["data"])
    async def awaited(key: str) -> str:
        await asyncio.sleep(0)
        return table.fetch(key)

    async def twice() -> None:
        for _ in range(2):
            assert ("empty", "empty") == (plain("sync"), await awaited("async"))

    asyncio.run(twice())
    assert ["sync", "async"] == table.asked
    zoocache.invalidate("data")
    asyncio.run(twice())
    assert ["sync", "async"] * 2 == table.asked


@pytest.mark.usefixtures("configured")
def test_namespaces_part_versions(table: Table) -> None:
    """Two functions in two namespaces never answer for each other."""

    @zoocache.cacheable(namespace="api:v2:users")
    def get_user_v2(uid: int) -> str:
        return "v2 " + table.fetch(uid)

    @zoocache.cacheable(namespace="api:v1:users")
    def get_user_v1(uid: int) -> str:
        return "v1 " + table.fetch(uid)

    assert [("v2 empty", "v1 empty")] * 2 == [(get_user_v2(1), get_user_v1(1)) for _ in range(2)]
    assert [1, 1] == table.asked


@pytest.mark.usefixtures("configured")
def test_clear(table: Table) -> None:
    """After `clear` every call computes anew."""

    @zoocache.cacheable()
    def read(key: int) -> str:
        return table.fetch(key)

    for key in (1, 2):
        read(key)
    zoocache.clear()
    for key in (1, 2, 1, 2):
        read(key)
    assert [1, 2, 1, 2] == table.asked


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("age", [{}, {"max_age_secs": 3600}, {"max_age_secs": 86400}])
def test_prune_keeps_what_is_dead_dead(age: dict[str, int], table: Table) -> None:
    """Pruning may be asked for at any time; what was invalidated stays so, and what is in use stays kept."""

    @zoocache.cacheable(deps=lambda key: [f"key:{key}"])
    def read(key: int) -> str:
        return table.fetch(key)

    read(1)
    read(2)
    zoocache.invalidate("key:1")
    zoocache.prune(**age)
    read(1)
    read(2)
    assert [1, 2, 1] == table.asked


def test_ttl_of_a_function(table: Table) -> None:
    """A function may have a TTL of its own, shorter than the one that was configured."""
    zoocache.configure(default_ttl=3600, read_extend_ttl=False)

    @zoocache.cacheable(ttl=0.05)
    def short() -> str:
        return table.fetch("short")

    @zoocache.cacheable()
    def long() -> str:
        return table.fetch("long")

    while table.asked.count("short") < 3:  # ends when two TTLs are over; the test's own time-out bounds it
        short()
        long()
    assert 1 == table.asked.count("long")


def test_version() -> None:
    """The version is that of the distribution."""
    assert "0.1.0" == zoocache.version()


def test_the_debug_door() -> None:
    """`Core().tag_version` shows the live number of a tag: it moves with the tag, and with no other."""
    from zoocache._zoocache import Core

    core = Core()
    first = core.tag_version("user:42")
    zoocache.invalidate("user:43")
    assert first == core.tag_version("user:42")
    zoocache.invalidate("user:42")
    second = core.tag_version("user:42")
    assert second > first
    assert second == Core().tag_version("user:42")


def test_the_debug_door_in_another_process(children: Children) -> None:
    """Another process of the same prefix sees the same number, and its invalidations at once."""
    from zoocache._zoocache import Core

    code = """
        from zoocache import invalidate
        from zoocache._zoocache import Core
        print(Core().tag_version("user:42"))
        invalidate("user:42")
        print(Core().tag_version("user:42"))
    """
    zoocache.invalidate("user:42")
    before = Core().tag_version("user:42")
    there = [int(line) for line in children.code(code).output().splitlines()]
    assert [before, Core().tag_version("user:42")] == there
    assert before < there[1]


def test_entries_in_lmdb_outlive_the_process(children: Children, tmp_path: Path) -> None:
    """With `lmdb://./…` a later process of the same program finds what an earlier one computed."""
    script = tmp_path / "program.py"
    script.write_text(
        "from zoocache import cacheable, configure\n"
        "configure(storage_url='lmdb://./cache_data')\n"
        "@cacheable(deps=['squares'])\n"
        "def square(x):\n"
        "    print('computing')\n"
        "    return x * x\n"
        "print(square(12))\n"
    )
    assert "computing\n144\n" == children.script(script, cwd=tmp_path).output()
    assert "144\n" == children.script(script, cwd=tmp_path).output()
    assert (tmp_path / "cache_data").exists()
