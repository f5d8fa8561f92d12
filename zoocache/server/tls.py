"""TLS for connections to a server; imported only where an address begins with rediss://."""

from __future__ import annotations

import ssl

from zoocache.errors import ConfigError
from zoocache.server.url import Address


def tls_of(address: Address) -> ssl.SSLContext:
    """What TLS of an address needs.

    Raises:
        ConfigError: a file of certificates cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=address.ca_file or None)
        context.check_hostname = address.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if address.verify else ssl.CERT_NONE
        if address.cert_file:
            context.load_cert_chain(address.cert_file, address.key_file or None)
    except OSError as error:
        raise ConfigError(
            f"{address}: a file that ssl_ca_certs, ssl_certfile or ssl_keyfile names cannot be used "
            f"({error.strerror or type(error).__name__})"
        ) from None
    return context


class Memory:
    """TLS between two buffers, for who moves the bytes himself.

    Attributes:
        tls: what is read and written through.
        incoming: what came from the other side, still encrypted.
        outgoing: what is to go there.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def read(self, size: int) -> bytes | None:
        """Up to so many bytes; None if more must come in first."""
        try:
            return self.tls.read(size)
        except ssl.SSLWantReadError:
            return None

    def shakes_hands(self) -> bool:
        """Go on with the handshake; whether more must come in for it."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return True
        return False
