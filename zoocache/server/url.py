"""What a Redis URL means, and what of it may be shown.

    redis://[[user]:password@]host[:port][/db]
    rediss://...        the same over TLS
    unix://[[user]:password@]/path/of/socket[?db=0]
    redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/db]       or rediss+sentinel://
        the master of that name, as the Sentinels at these places say (`zoocache.server.sentinel`); user and password
        are the master's, and TLS is spoken with all

The options after `?` are named as redis-py names them: db, ssl_cert_reqs (required or none), ssl_check_hostname,
ssl_ca_certs, ssl_certfile, ssl_keyfile; and sentinel_username, sentinel_password, where the Sentinels want some. User,
password and path are percent-decoded. What is shown of an address, in messages, logs and by repr, is scheme, host, port
or path, name, and database: never who asks, nor an unknown part of the URL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from zoocache.errors import ConfigError

SENTINEL = "+sentinel"
SCHEMES = ("redis", "rediss", "unix", f"redis{SENTINEL}", f"rediss{SENTINEL}")
DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
MOST_DBS = 1 << 20
_LONGEST_PATH = 107  # man 7 unix
_LONGEST_DB = 20  # Python makes no number of a text of some thousand digits

_FORMS = (
    "redis://[[user]:password@]host[:port][/db], rediss:// the same, unix://[[user]:password@]/path[?db=0], or "
    "redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/db]"
)
_ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Address:
    """A database of a server. Made by `address_of`.

    Attributes:
        scheme: redis, rediss or unix.
        host: name or number; empty for unix, and where Sentinels know it.
        port: 0 for these.
        path: of the socket; empty for the others.
        db: number of the database.
        username: empty for the default one.
        password: empty for none.
        verify: TLS: whether the server's certificate is checked.
        check_hostname: TLS: whether it must be this host's.
        ca_file: TLS: certificates to trust instead of the system's.
        cert_file, key_file: TLS: what to show the server.
        sentinels: host and port of each that is to be asked where the server is; empty if the address says it.
        master: what they call it.
        sentinel_username, sentinel_password: theirs; empty for none.
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
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}?db={self.db}"
        if self.sentinels:
            places = ",".join(_shown(*each) for each in self.sentinels)
            return f"{self.scheme}{SENTINEL}://{places}/{self.master}/{self.db}"
        return f"{self.scheme}://{_shown(self.host, self.port)}/{self.db}"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
        scheme = parts.scheme.removesuffix(SENTINEL)
        port = 0 if scheme != parts.scheme else _port(parts, DEFAULT_PORT)
    except ValueError:
        raise ConfigError(f"{name} is no URL: host and port cannot be told apart in it; it must be {_FORMS}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{name} does not begin with redis://, rediss://, unix:// or redis+sentinel://")
    if parts.fragment or any(ord(each) <= 32 for each in url):
        raise ConfigError(f"{name} has a blank or a # in it; write %20 or %23, or leave it out")
    common = _common(scheme, parts, name)
    if scheme != parts.scheme:
        return _by_sentinels(common, parts, name)
    if scheme == "unix":
        return replace(common, path=_path(parts, name), db=_db(parts, "", name))
    db = _db(parts, parts.path.removeprefix("/"), name)
    return replace(common, host=_host(parts.hostname, name), port=port, db=db)


def _common(scheme: str, parts: SplitResult, name: str) -> Address:
    """What all forms have: who asks, and how TLS is spoken."""
    options = _options(parts, name)
    _check_text(name, parts.username, parts.password, *options.values())
    verify = options.get("ssl_cert_reqs") != "none"
    return Address(
        scheme=scheme,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        verify=verify,
        check_hostname=verify and _ANSWERS[options.get("ssl_check_hostname", "true").lower()],
        ca_file=options.get("ssl_ca_certs", ""),
        cert_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
    )


def _check_text(name: str, *texts: str | None) -> None:
    """What is to be sent must be what UTF-8 can carry: an error at the sending would show it."""
    if not _is_text("".join(filter(None, texts))):
        raise ConfigError(f"{name}: user, password or an option has bytes that are no UTF-8, and cannot be sent")


def _is_text(text: str) -> bool:
    """In a function of its own: the error, which holds the text, is not to be the context of another."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def same_place(one: Address, other: Address) -> bool:
    """Whether two addresses name one database of one server, as far as their texts tell."""
    return _place(one) == _place(other)


def _place(address: Address) -> tuple[str, int, str, int, str, list[tuple[str, int]]]:
    sentinels = sorted((host.lower(), port) for host, port in address.sentinels)
    return address.host.lower(), address.port, address.path, address.db, address.master, sentinels


def _by_sentinels(common: Address, parts: SplitResult, name: str) -> Address:
    master, _, db = parts.path.removeprefix("/").partition("/")
    master = unquote(master)
    if not master.isprintable() or not master or " " in master:
        raise ConfigError(f"{name} does not say what the Sentinels call the server; it must be {_FORMS}")
    places = tuple(_sentinel(each, name) for each in parts.netloc.rpartition("@")[2].split(","))
    return replace(common, sentinels=places, master=master, db=_db(parts, db, name))


def _sentinel(text: str, name: str) -> tuple[str, int]:
    """Host and port of one Sentinel."""
    try:
        parts = urlsplit(f"//{text}")
        port = _port(parts, SENTINEL_PORT)
    except ValueError:
        raise ConfigError(f"{name}: host and port of a Sentinel cannot be told apart; it must be {_FORMS}") from None
    return _host(parts.hostname, name), port


def _port(parts: SplitResult, usual: int) -> int:
    """The port; raises ValueError if it is none that anybody could listen on."""
    if parts.port == 0:
        raise ValueError("nobody listens there")
    return usual if parts.port is None else parts.port


def _host(text: str | None, name: str) -> str:
    host = unquote(text or "")
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
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        size = _LONGEST_PATH + 1
    if size > _LONGEST_PATH or "\0" in path:
        raise ConfigError(f"{name}: the path of a socket has at most {_LONGEST_PATH} bytes, each of a character")
    return os.path.normpath(path)


def _db(parts: SplitResult, text: str, name: str) -> int:
    text = dict(parse_qsl(parts.query)).get("db") or text or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_DB and int(text) < MOST_DBS):
        raise ConfigError(f"{name} names a database that is no number from 0 to {MOST_DBS - 1}")
    return int(text)


_TLS_OPTIONS = {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
_OPTIONS = {"db"} | _TLS_OPTIONS | _SENTINEL_OPTIONS


def _options(parts: SplitResult, name: str) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not options.keys() <= _OPTIONS:
        raise ConfigError(f"{name} has an option after its ? that is none of {', '.join(sorted(_OPTIONS))}")
    if options.get("ssl_cert_reqs", "required") not in {"required", "none"}:
        raise ConfigError(f"{name}: ssl_cert_reqs is neither required nor none")
    if options.get("ssl_check_hostname", "true").lower() not in _ANSWERS:
        raise ConfigError(f"{name}: ssl_check_hostname is neither true nor false")
    if not parts.scheme.startswith("rediss") and options.keys() & _TLS_OPTIONS:
        raise ConfigError(f"{name}: options of TLS need rediss://")
    if not parts.scheme.endswith(SENTINEL) and options.keys() & _SENTINEL_OPTIONS:
        raise ConfigError(f"{name}: what Sentinels want is told to Sentinels; it needs redis+sentinel://")
    return options
