"""Which error a refusal of the server's means. None of their messages repeats what was sent: it may be a secret.

unable    the server cannot serve anybody now; so it is asked seldom, by the breaker (ServerDown)
forgot    a script says that it has lost something: what is sent mends that, so it is not left alone (ServerDown)
full      it is out of memory: it may read, but not write (ServerDown)
refused   it will not serve this user (ServerRefused)
other     it does not understand: a key of ours holds something else, a foreign server (StorageError)
"""

from __future__ import annotations

from dataclasses import replace

from zoocache.errors import ServerDown, ServerRefused, StorageError, StorageIsFull, ZooCacheError
from zoocache.server.resp import Refusal
from zoocache.server.url import Address

_UNABLE = {
    "LOADING": "it is still reading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "READONLY": "it is a read-only replica; name the server that takes writes",
    "CLUSTERDOWN": "its cluster is down",
    "TRYAGAIN": "its cluster is being rearranged",
    "ASK": "its cluster is being rearranged",
    "MOVED": "its cluster is being rearranged",
    "BUSY": "a script of somebody else's keeps it busy",
    "NOREPLICAS": "it has too few replicas to take writes",
    "MISCONF": "it cannot save its data to its disk, and takes no writes",
}
_FULL = {"OOM": "it is out of memory; raise its maxmemory, or let it evict"}
_FORGOT = {"FORGOT": "it has lost what this host knows, in a failover perhaps; that is mended in about a second"}
_REFUSED = {
    "NOAUTH": "it wants a password; write it into the URL",
    "WRONGPASS": "user or password is wrong",
    "NOPERM": "this user may not do there what a cache must do; grant it scripts, pub/sub, and the keys {zoocache:*",
    "DENIED": "it takes no connections from other machines without a password (protected mode)",
}
_NO_RIGHT_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""What NOPERM is inside a script, from version 7 on and before; its code is ERR."""
_TOO_LONG = "Protocol error: invalid bulk length"
_NO_ROOM_FOR_CLIENTS = "max number of clients reached"


def moved_to(address: Address, refusal: Refusal) -> Address | None:
    """Where a cluster says that a key lies ("MOVED 3999 host:port"); None if that is not what it says.

    Args:
        address: of the node that refused.
        refusal: its reply.
    """
    if refusal.code != "MOVED":
        return None
    host, colon, port = refusal.text.partition(" ")[2].rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        return None
    scheme = "rediss" if address.scheme == "rediss" else "redis"
    return replace(address, scheme=scheme, path="", host=host.strip("?") or address.host, port=int(port))


def is_unable(refusal: Refusal) -> bool:
    """Whether the server cannot serve anybody now."""
    return refusal.code in _UNABLE or refusal.text == _NO_ROOM_FOR_CLIENTS


def error_of(address: Address, refusal: Refusal) -> ZooCacheError:
    """The error that a refusal means.

    Args:
        address: whose it is.
        refusal: what the server replied.
    """
    code = "NOPERM" if refusal.text.startswith(_NO_RIGHT_IN_SCRIPT) else refusal.code
    if code in _REFUSED:
        return ServerRefused(f"{address}: {_REFUSED[code]} ({code})")
    if refusal.text == _NO_ROOM_FOR_CLIENTS:
        return ServerDown(f"{address}: it has as many clients as it takes; raise its maxclients")
    reason = _UNABLE.get(code) or _FULL.get(code) or _FORGOT.get(code)
    if reason:
        return ServerDown(f"{address}: {reason} ({code})")
    if refusal.text == _TOO_LONG:
        return StorageIsFull(f"{address}: a value is larger than the server takes (its proto-max-bulk-len)")
    text = refusal.text.partition(", with args")[0][:200]
    return StorageError(f"{address}: the server does not do what a cache needs: {code} {text}")
