"""TLS over a non-blocking socket, with the socket's own few methods.

Over memory buffers rather than ssl.SSLSocket: the client's loop decides when bytes move, and what
went wrong stays told apart, the network's errno here, the handshake's reason there.
"""

from __future__ import annotations

import hashlib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from socket import SocketType

from segue.errors import UsageError, WireError

# One TLS record at most (RFC 8446 section 5.1).
RECORD = 16384
# From the socket in one go, each of up to a record.  A server may send what is no answer, such as
# session tickets, as fast as it is read: others must have their turn, and limits of time be kept.
_MOST_READS = 64


@dataclass(frozen=True, slots=True)
class Tls:
    """How to begin: the context, and the name that the certificate must be for."""

    context: ssl.SSLContext
    name: str


def options(name: str, *, insecure: bool = False, ca: str = "") -> Tls:
    """TLS to a server of this name, trusting this machine's authorities or those in a file.

    Raises UsageError when the file holds none.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{ca} holds no certificate authorities: {said}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return Tls(context, name)


@lru_cache(maxsize=64)
def fingerprint(certificate: bytes) -> str:
    """The first half of the SHA-256 of a certificate: what tells the old from the new."""
    return hashlib.sha256(certificate).hexdigest()[:32]


class TlsSocket:
    """A connected non-blocking socket with TLS on it.

    Every method that moves bytes raises BlockingIOError when it has to wait, OSError for what the
    network said, WireError for what TLS said.
    """

    __slots__ = ("_in", "_out", "_owed", "_sock", "_tls", "_unsent", "fileno", "getsockopt")

    def __init__(self, sock: SocketType, tls: Tls) -> None:
        self._sock = sock
        self.fileno, self.getsockopt = sock.fileno, sock.getsockopt
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.context.wrap_bio(self._in, self._out, server_hostname=tls.name or None)
        self._unsent = b""
        self._owed = 0

    @property
    def unsent(self) -> bool:
        """Bytes wait for room in the socket."""
        return bool(self._unsent)

    @property
    def certificate(self) -> str:
        """The fingerprint of what the server presented; empty when it presented nothing."""
        found = self._tls.getpeercert(binary_form=True)
        return fingerprint(found) if found else ""

    def getsockname(self) -> tuple[str, int]:
        """The local address."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Close the socket, without a word to the peer beyond its FIN."""
        self._sock.close()

    def handshake(self) -> None:
        """Go on with the handshake; returns when it is over.  ConnectionError: EOF within it."""
        for left in reversed(range(_MOST_READS)):
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill(left, at_end=ConnectionAbortedError)
            except ssl.SSLError as error:
                reason = _reason(error)
                # The alert tells the server why; that it cannot be sent changes nothing.
                with suppress(OSError):
                    self._flush()
                raise WireError("TLS handshake", reason) from None
            else:
                self._flush()
                return

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send some; how much of the data is gone.

        After BlockingIOError it must be called again with the same data, as SSL_write(3) has it.
        """
        if not self._owed:
            try:
                self._owed = self._tls.write(data[:RECORD])
            except ssl.SSLError as error:
                raise WireError("TLS", _reason(error)) from None
        self._flush()
        owed, self._owed = self._owed, 0
        return owed

    def recv(self, number: int) -> bytes:
        """All that can be read now, b"" when the server has closed.

        More than ``number`` may come: what is left in a TLS buffer no epoll instance tells of.
        """
        for left in reversed(range(_MOST_READS)):
            found = bytearray()
            try:
                while part := self._tls.read(number):
                    found += part
                # Nothing, and no wish to read more: the server's close_notify.
                return bytes(found)
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return bytes(found)
            except ssl.SSLError as error:
                raise WireError("TLS", _reason(error)) from None
            if found:
                return bytes(found)
            self._fill(left, at_end=None)
        raise AssertionError("the last turn does not come to its end")

    def _fill(self, left: int, *, at_end: type[OSError] | None) -> None:
        if not left:
            raise BlockingIOError  # all of the buffer has been seen: epoll tells of what is more
        data = self._sock.recv(RECORD)
        if data:
            self._in.write(data)
        elif at_end is not None:
            raise at_end
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        self._unsent += self._out.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}:
        return "the server speaks no TLS"
    return (error.reason or str(error)).replace("_", " ").lower()
