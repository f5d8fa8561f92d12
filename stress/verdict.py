"""The verdict: what a run has left in the segment, seen by a process that comes when all the others are gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import posix_ipc

from stress import listeners
from stress.fleet import ask
from stress.run import Run
from zoocache import clock, runtime
from zoocache._zoocache import Core
from zoocache.shm import identity
from zoocache.shm.claims import RUNNING, Claim
from zoocache.shm.layout import (
    C_TICKET,
    CLAIM_WORDS,
    H_COARSENED,
    H_INHERITED,
    H_INVALIDATIONS,
    H_LISTENER_PID,
    H_PRUNES,
)
from zoocache.shm.segment import Segment

PATIENCE_S, TICK_S = 30.0, 0.02
NEVER_MS = 2**62
HARMLESS = "harmless"
"""What `check` says of an insert that a kill cut short: the next insert settles it."""


def pass_verdict(
    run: Run, last_look: Callable[[], list[str]] = list, settle: Callable[[], None] | None = None
) -> None:  # fmt: skip
    """Look at the segment, tell what is there, and report as failures of the run what should not be.

    The listener is ended first: it may be inside the lock, with the token, at any moment, and a look is but one moment.

    Args:
        run: all its processes are gone.
        last_look: what else to do in the process that looks; returns faults.
        settle: configures the cache there; None: as the run does.
    """
    try:
        listeners.end(run.prefix, signal.SIGTERM)
        found = ask(lambda: _inspect(run, last_look, settle or run.settle), run.limit_s(PATIENCE_S))
    except (TimeoutError, ChildProcessError) as error:
        run.fail(f"the cache cannot be used at the end, seed {run.options.seed}: {error}")
        return
    run.tokens_lost += 1 - found["tokens"]
    for fault in found["faults"]:
        run.fail(f"at the end, seed {run.options.seed}: {fault}")
    run.say(
        f"segment: {found['invalidations']} invalidations, {found['tags']} tags left, {found['prunes']} prunes, "
        f"{found['coarsened']} tags given up for room, {found['inherited']} claims inherited, "
        f"{len(found['faults'])} faults"
    )


def _inspect(run: Run, last_look: Callable[[], list[str]], settle: Callable[[], None]) -> dict[str, Any]:
    settle()
    core = Core()
    segment = runtime.engine().trie.segment
    shared, tokens = _shared_faults(core), _tokens(segment)
    gate = [] if tokens == 1 else [f"the gate holds {tokens} tokens, not 1"]
    slots = _slot_faults(segment, core)  # before anything is read, which begins a listener
    faults = [*shared, *gate, *slots, *last_look()]
    words = segment.words
    return {
        "faults": [*faults, *_claim_faults(segment), *_shared_faults(core)],
        "tokens": tokens,
        "tags": len(core.tags()),
        "invalidations": words[H_INVALIDATIONS],
        "prunes": words[H_PRUNES],
        "coarsened": words[H_COARSENED],
        "inherited": words[H_INHERITED],
    }


def _shared_faults(core: Core) -> list[str]:
    return [fault for fault in core.check() if HARMLESS not in fault]


def _tokens(segment: Segment) -> int:
    """How many the gate holds. `check` was a write: after it there is one, whatever the dead took with them."""
    gate = posix_ipc.Semaphore(identity.gate_name(segment.name))
    tokens = gate.value
    gate.close()
    return int(tokens)


def _slot_faults(segment: Segment, core: Core) -> list[str]:
    faults = [] if segment.claim_slot(clock.now().wall_ms) else ["no slot is free, though nobody else is attached"]
    others = _others(segment, core)
    return [*faults, f"slots of processes that are gone count as alive: {others}"] if others else faults


def _others(segment: Segment, core: Core) -> list[int]:
    """Who counts as alive. One whose first thread has ended maps nothing to who looks, and may live for a moment."""
    until_s, known = time.monotonic() + PATIENCE_S / 2, (os.getpid(), segment.words[H_LISTENER_PID])
    while True:
        others = [process.pid for process in core.processes() if process.pid not in known]
        if not others or time.monotonic() > until_s:
            return others
        time.sleep(TICK_S)


def _claim_faults(segment: Segment) -> list[str]:
    """Every claim that says it is under way is one of the dead, so its place can be used again."""
    words, layout, claims = segment.words, segment.layout, segment.claims
    places = range(layout.claims_at, layout.claims_at + layout.claims * CLAIM_WORDS, CLAIM_WORDS)
    running = [Claim(at, words[at + C_TICKET]) for at in places if words[at] == RUNNING]
    lasting = [claim for claim in running if not claims.needs_heir(claim, clock.up_ms(), NEVER_MS)]
    return [f"claims that nobody may ever take: {lasting}"] if lasting else []
