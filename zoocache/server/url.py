"""What a Redis URL means, and what of it may be shown.

    redis://[[user]:password@]host[:port][/db]
    rediss://...        the same over TLS
    unix://[[user]:password@]/path/of/socket[?db=0]

The options after `?` are named as redis-py names them: db, ssl_cert_reqs (required or none), ssl_check_hostname,
ssl_ca_certs, ssl_certfile, ssl_keyfile. User, password and path are percent-decoded. What is shown of an address, in
messages, logs and by repr, is scheme, host, port or path, and database: never who asks, nor an unknown part of the URL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from zoocache.errors import ConfigError

SCHEMES = ("redis", "rediss", "unix")
DEFAULT_PORT = 6379
MOST_DBS = 1 << 20
_LONGEST_PATH = 107  # man 7 unix

_FORMS = "redis://[[user]:password@]host[:port][/db], rediss:// the same, unix://[[user]:password@]/path[?db=0]"
_ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Address:
    """A database of a server. Made by `address_of`.

    Attributes:
        scheme: redis, rediss or unix.
        host: name or number; empty for unix.
        port: 0 for unix.
        path: of the socket; empty for the others.
        db: number of the database.
        username: empty for the default one.
        password: empty for none.
        verify: TLS: whether the server's certificate is checked.
        check_hostname: TLS: whether it must be this host's.
        ca_file: TLS: certificates to trust instead of the system's.
        cert_file, key_file: TLS: what to show the server.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    verify: bool = True
    check_hostname: bool = True
    ca_file: str = field(default="", repr=False)
    cert_file: str = field(default="", repr=False)
    key_file: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.db}"


def address_of(url: str, name: str = "storage_url") -> Address:
    """What a URL means.

    Args:
        url: as in the head of this file.
        name: of the option that it comes from, for messages.

    Raises:
        ConfigError: it is malformed; the message repeats nothing of it but a host that was understood.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{name} is no URL: host and port cannot be told apart in it; it must be {_FORMS}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{name} does not begin with redis://, rediss:// or unix://")
    if parts.fragment or any(ord(each) <= 32 for each in url):
        raise ConfigError(f"{name} has a blank or a # in it; write %20 or %23, or leave it out")
    options = _options(parts, name)
    verify = options.get("ssl_cert_reqs") != "none"
    is_unix = parts.scheme == "unix"
    return Address(
        scheme=parts.scheme,
        host="" if is_unix else _host(parts, name),
        port=0 if is_unix else DEFAULT_PORT if port is None else port,
        path=_path(parts, name) if is_unix else "",
        db=_db(options.get("db") or ("" if is_unix else parts.path.removeprefix("/")) or "0", name),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        verify=verify,
        check_hostname=verify and _ANSWERS[options.get("ssl_check_hostname", "true").lower()],
        ca_file=options.get("ssl_ca_certs", ""),
        cert_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
    )


def same_place(one: Address, other: Address) -> bool:
    """Whether two addresses name one database of one server, as far as their texts tell."""
    return _place(one) == _place(other)


def _place(address: Address) -> tuple[str, int, str, int]:
    return address.host.lower(), address.port, address.path, address.db


def _host(parts: SplitResult, name: str) -> str:
    host = unquote(parts.hostname or "")
    try:
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host:
        raise ConfigError(f"{name} names no host that there could be; it must be {_FORMS}")
    return host


def _path(parts: SplitResult, name: str) -> str:
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/"):
        raise ConfigError(f"{name} is no absolute path: unix:// is followed by /path/of/socket, three slashes in all")
    if len(os.fsencode(path)) > _LONGEST_PATH or "\0" in path:
        raise ConfigError(f"{name}: the path of a socket has at most {_LONGEST_PATH} bytes")
    return os.path.normpath(path)


def _db(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < MOST_DBS):
        raise ConfigError(f"{name} names a database that is no number from 0 to {MOST_DBS - 1}")
    return int(text)


_OPTIONS = {"db", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}


def _options(parts: SplitResult, name: str) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not options.keys() <= _OPTIONS:
        raise ConfigError(f"{name} has an option after its ? that is none of {', '.join(sorted(_OPTIONS))}")
    if options.get("ssl_cert_reqs", "required") not in {"required", "none"}:
        raise ConfigError(f"{name}: ssl_cert_reqs is neither required nor none")
    if options.get("ssl_check_hostname", "true").lower() not in _ANSWERS:
        raise ConfigError(f"{name}: ssl_check_hostname is neither true nor false")
    if parts.scheme != "rediss" and options.keys() - {"db"}:
        raise ConfigError(f"{name}: options of TLS need rediss://")
    return options
