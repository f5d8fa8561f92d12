"""Settings of gunicorn for the tests: any free port, which it tells on standard output; nothing outside of it."""

from __future__ import annotations

import os
from typing import Any

bind = "127.0.0.1:0"
workers = int(os.environ["WORKERS"])
max_requests = int(os.environ.get("MAX_REQUESTS", "0"))
timeout = 0  # a worker at a closed gate is not taken for one that hangs
control_socket_disable = True  # it would lie in the home directory, one for all


def when_ready(server: Any) -> None:
    """In the master, before it forks its workers."""
    print("ready", server.LISTENERS[0].getsockname()[1], flush=True)
