"""How a connection begins: to which addresses it goes, and what is said first."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from zoocache.errors import ConfigError, ServerRefused
from zoocache.server.replies import error_of, is_unable
from zoocache.server.resp import Refusal, Reply
from zoocache.server.url import Address
from zoocache.shm import kernel

Target = tuple[int, Any]
"""A family of sockets, and an address of that family."""

AUTH = "AUTH"
SELECT = "SELECT"


def targets_of(found: Sequence[tuple[Any, ...]]) -> list[Target]:
    """What a look-up of a host found, as `connect` takes it."""
    return [(each[0], each[4]) for each in found]


def known_targets(address: Address) -> list[Target] | None:
    """Where an address may be reached, if that is plain; None if a name must be looked up, which may take its time.

    "localhost" is the loopback interface, whatever a resolver says (RFC 6761, section 6.3).
    """
    if address.scheme == "unix":
        return [(socket.AF_UNIX, address.path)]
    if address.host.lower() == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", address.port)), (socket.AF_INET6, ("::1", address.port, 0, 0))]
    try:
        flags = socket.AI_NUMERICHOST
        return targets_of(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        return None


def targets(address: Address) -> list[Target]:
    """`known_targets`, or those that are found: looking a name up takes as long as the system's resolver takes."""
    known = known_targets(address)
    return (
        targets_of(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)) if known is None else known
    )


def socket_for(family: int) -> socket.socket:
    """A socket that sends small commands at once, and finds out in the end that the other side is gone."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    if sock.fileno() <= kernel.LAST_OF_STDIO:
        sock = socket.socket(fileno=kernel.above_stdio(sock.detach()))
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def greeting(address: Address) -> list[list[str]]:
    """The commands that come first; none if there is nothing to say."""
    said = []
    if address.username:
        said.append([AUTH, address.username, address.password])
    elif address.password:
        said.append([AUTH, address.password])
    if address.db:
        said.append([SELECT, str(address.db)])
    return said


def check(address: Address, command: list[str], reply: Reply) -> None:
    """Raise unless a command of the greeting was accepted.

    Raises:
        ServerDown: the server cannot serve now.
        ServerRefused: the password is wrong, or none is asked for.
        ConfigError: there is no such database.
    """
    if not isinstance(reply, Refusal):
        return
    if not is_unable(reply) and command[0] == AUTH:
        raise ServerRefused(f"{address}: user or password of the URL is not what the server wants ({reply.code})")
    if not is_unable(reply) and reply.code == "ERR":
        raise ConfigError(f"{address}: the server has no database {address.db}; a cluster has only 0")
    raise error_of(address, reply)
