"""The server of a run with one host: a real one, without anything between, and the end of its listener.

For partition, whose hosts have networks of their own, see hosts.py.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from stress import listeners
from stress.run import Run
from zoocache.shm import identity
from zoocache.shm.layout import H_LISTENER_PID, HEADER_WORDS, WORD


@contextlib.contextmanager
def served(run: Run) -> Iterator[None]:
    """Give a run a server, if what it was asked for needs one; nothing of it is left."""
    if not run.options.bus and run.options.storage != "redis":
        yield
        return
    from tests.servers import Servers  # what the tests need, only runs with a server do too

    servers = Servers()
    try:
        server = servers.start()
        run.server_url, run.server_pid = server.url, server.pid
        yield
    finally:
        try:
            listeners.end(run.prefix, signal.SIGTERM)  # the verdict, too, has used the cache, and may have begun one
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
