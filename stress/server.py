"""The server of a run with one host: a real one, without anything between; and the end of the library's own listener.

For partition, whose hosts have networks of their own, see hosts.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from stress.run import Run
from zoocache.errors import SegmentError
from zoocache.shm import identity, segment
from zoocache.shm.layout import H_LISTENER_PID, HEADER_WORDS, WORD

GONE_S = 20.0


@contextlib.contextmanager
def served(run: Run) -> Iterator[None]:
    """Give a run a server, if what it was asked for needs one; nothing of it is left."""
    if not run.options.bus and run.options.storage != "redis":
        yield
        return
    from tests.servers import Servers  # what the tests need, only runs with a server do too

    servers = Servers()
    try:
        run.server_url = servers.start().url
        yield
        end_listener(run.prefix)
    finally:
        servers.end()


def listener_of(prefix: str) -> int:
    """The process that says that it is the listener; 0 if nobody does."""
    file = Path(identity.segment_file(identity.segment_name(prefix)))
    try:
        header = file.read_bytes()[: HEADER_WORDS * WORD]
    except FileNotFoundError:
        return 0
    return int(memoryview(header).cast("Q")[H_LISTENER_PID]) if len(header) == HEADER_WORDS * WORD else 0


def end_listener(prefix: str) -> None:
    """End it, and any that was about to begin, and remove the segment, which is in use as long as one is there.

    Raises:
        SegmentError: somebody stays attached.
    """
    until_s = time.monotonic() + GONE_S
    while True:
        pid = listener_of(prefix)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or os.getpid(), signal.SIGTERM if pid else 0)
        try:
            segment.destroy(prefix)
            return
        except SegmentError:
            if time.monotonic() > until_s:
                raise
        time.sleep(0.02)
