"""When a server that did not answer is asked again."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from zoocache.server.breaker import FIRST_S, LONGEST_S, Breaker

PATIENCE_S = 0.5


def broken(failures: int = 1) -> tuple[Breaker, float]:
    """A breaker after so many failures in a row, and when the last one was."""
    breaker, now_s = Breaker(PATIENCE_S), 100.0
    for _ in range(failures):
        assert breaker.admits(now_s)
        breaker.failed(now_s, now_s)
        now_s += breaker.wait_s
    return breaker, now_s - breaker.wait_s


def test_closed() -> None:
    """While all goes well, every call goes out."""
    breaker = Breaker(PATIENCE_S)
    assert [True] * 3 == [breaker.admits(now_s) for now_s in (0.0, 0.0, 5.0)]
    assert not breaker.is_open


def test_a_failure_opens_it() -> None:
    """After a failure nothing goes out until the probe, and then one call."""
    breaker, failed_s = broken()
    assert breaker.is_open
    assert [False, False] == [breaker.admits(failed_s + after_s) for after_s in (0.0, 0.099)]
    assert [True, False, False] == [breaker.admits(failed_s + FIRST_S + after_s) for after_s in (0.0, 0.0, 0.4)]


def test_a_success_closes_it() -> None:
    """Once a probe has succeeded, every call goes out, and the next failure begins anew."""
    breaker, failed_s = broken(4)
    breaker.admits(failed_s + 10)
    breaker.succeeded()
    assert [True, True] == [breaker.admits(failed_s + 10) for _ in range(2)]
    breaker.failed(failed_s + 11, failed_s + 11)
    assert FIRST_S == breaker.wait_s


def test_it_waits_twice_as_long_each_time() -> None:
    """Each probe that fails doubles the wait, up to a limit."""
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0] == [broken(failures)[0].wait_s for failures in range(1, 8)]


def test_stragglers_tell_nothing_new() -> None:
    """Of many calls that fail together, one counts."""
    breaker, failed_s = broken()
    for _ in range(50):
        breaker.failed(failed_s + 0.01, failed_s - 0.3)
    assert FIRST_S == breaker.wait_s
    assert breaker.admits(failed_s + FIRST_S)


def test_a_probe_that_never_returns() -> None:
    """A probe that was killed is replaced when it is overdue."""
    breaker, failed_s = broken()
    probe_s = failed_s + FIRST_S
    assert breaker.admits(probe_s)
    assert [False, True, False] == [breaker.admits(probe_s + after_s) for after_s in (0.49, PATIENCE_S, PATIENCE_S)]


def test_one_probe_among_threads() -> None:
    """However many threads come when a probe is due, one goes out."""
    for _ in range(50):
        breaker, failed_s = broken()
        start, admitted = threading.Barrier(6), []

        def work(breaker: Breaker = breaker, start: threading.Barrier = start, now_s: float = failed_s + 5) -> None:
            start.wait()
            admitted.append(breaker.admits(now_s))  # noqa: B023  # joined before the next round

        threads = [threading.Thread(target=work) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert 1 == sum(admitted)


def test_after_a_fork() -> None:
    """A child whose parent's mutex was held goes on."""
    breaker, failed_s = broken()
    breaker._mutex.acquire()
    assert not breaker.admits(failed_s + 5)
    breaker.after_fork()
    assert breaker.admits(failed_s + 5)


@given(st.lists(st.tuples(st.sampled_from(["admits", "failed", "succeeded"]), st.floats(0, 3))))
def test_it_never_shuts_for_good(steps: list[tuple[str, float]]) -> None:
    """Whatever happened, a call goes out within the longest wait and a probe's patience."""
    breaker, now_s = Breaker(PATIENCE_S), 0.0
    for what, later_s in steps:
        now_s += later_s
        if what == "admits":
            breaker.admits(now_s)
        elif what == "failed":
            breaker.failed(now_s, now_s - later_s)
        else:
            breaker.succeeded()
    assert breaker.admits(now_s + LONGEST_S + PATIENCE_S)
