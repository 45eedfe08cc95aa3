"""One HTTP/1.x response, read from bytes as they come: where does it end, and was it whole?

Knows the three framings of RFC 9112 section 6.3 (Content-Length, chunked, until close), interim
responses, and answers without a body.  Sans-I/O.  Left out: trailers are skipped, the body is
counted and kept only when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from segue.errors import WireError

# Servers and proxies cap a head at 8 to 64 KiB; beyond that it is no HTTP.
HEAD_LIMIT = 65536
LINE_LIMIT = 4096
LENGTH_LIMIT = 256
BODY = b":body"
# A version fits; a whole page does not need to.
BODY_SHOWN = 64
BODY_KEPT = 65536


@dataclass(frozen=True, slots=True)
class Head:
    """A status line and its header fields; names in lower case, repeated ones joined by commas."""

    status: int
    fields: Mapping[bytes, bytes]
    length: int | None  # of the body, where Content-Length says it
    chunked: bool
    close: bool  # the server will close after this response

    @property
    def interim(self) -> bool:
        """Another head follows.  101 is final: what follows is another protocol."""
        return 100 <= self.status < 200 and self.status != 101


# The head of a server under load changes only with its Date, once a second; reading it anew each
# time would be a third of the probe's own cost.
@lru_cache(maxsize=256)
def parse_head(data: bytes) -> Head:
    """Read a head up to and with its empty line.  Raises WireError."""
    first, *lines = data[:-4].split(b"\r\n")
    version, _, rest = first.partition(b" ")
    code, _, _reason = rest.partition(b" ")
    known = version[:7] == b"HTTP/1." and version[7:].isdigit()
    if not (known and len(code) == 3 and code.isdigit()):
        raise WireError("status line", "is not HTTP/1", first)
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise WireError("header field", "has no name", line)
        key, value = name.lower(), value.strip(b" \t")
        fields[key] = fields[key] + b", " + value if key in fields else value
    tokens = {token.strip() for token in fields.get(b"connection", b"").lower().split(b",")}
    codings = fields.get(b"transfer-encoding", b"").lower()
    return Head(
        status=int(code),
        fields=fields,
        length=_length(fields.get(b"content-length")),
        chunked=codings.rpartition(b",")[2].strip() == b"chunked",
        close=b"close" in tokens or (version == b"HTTP/1.0" and b"keep-alive" not in tokens),
    )


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    # A repeated Content-Length is one if all its values agree (RFC 9112 section 6.3).
    values = {part.strip() for part in value.split(b",")}
    if len(values) != 1 or not min(values).isdigit() or len(value) > LENGTH_LIMIT:
        raise WireError("Content-Length", "is not one number", value)
    return int(min(values))


class _Phase(Enum):
    HEAD = auto()
    LENGTH = auto()
    UNTIL_CLOSE = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    DONE = auto()


class ResponseReader:
    """Feed it bytes until it says that the response is whole.

    ``started`` is True from the first byte on; ``head`` is None until the final head is read;
    ``size`` counts the bytes of the body.  Bytes after the end are kept in ``surplus``.
    """

    __slots__ = (
        "_bodiless", "_buffer", "_closed", "_left", "_phase", "body", "head", "size", "started",
        "surplus",
    )  # fmt: skip

    def __init__(self, method: str = "GET", *, keep_body: bool = False) -> None:
        self._bodiless = method == "HEAD"
        self._buffer = b""
        self._phase = _Phase.HEAD
        self._left = 0
        self._closed = False
        self.body = bytearray() if keep_body else None
        self.head: Head | None = None
        self.size = 0
        self.started = False
        self.surplus = b""

    @property
    def complete(self) -> bool:
        """The response is whole."""
        return self._phase is _Phase.DONE

    @property
    def status(self) -> int:
        """The final status code, 0 until it is known."""
        return self.head.status if self.head else 0

    @property
    def reusable(self) -> bool:
        """Another request may be sent on the connection."""
        head = self.head
        if head is None or not self.complete or self._closed or self.surplus:
            return False
        return not head.close and head.status != 101

    @property
    def closing(self) -> bool:
        """The server said that it closes after this response, which need not be whole yet."""
        return self.head is not None and self.head.close

    def field(self, name: bytes) -> bytes:
        """The value of a header field by its name in lower case; empty where there is none.

        ":body", which no field can be called, is the beginning of a body that is kept.
        """
        if name == BODY:
            return bytes(self.body[:BODY_SHOWN]).strip() if self.body is not None else b""
        return self.head.fields.get(name, b"") if self.head else b""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once the response is whole.  Raises WireError."""
        self.started = True
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        while data and self._phase is not _Phase.DONE:
            rest = self._step(data)
            if len(rest) == len(data):
                self._buffer = data
                return False
            data = rest
        self.surplus += data
        return self._phase is _Phase.DONE

    def eof(self) -> bool:
        """The server has closed; True when the response is whole.

        Without a length the close is the end of the body.
        """
        self._closed = True
        if self._phase is _Phase.UNTIL_CLOSE:
            self._phase = _Phase.DONE
        return self._phase is _Phase.DONE

    def _step(self, data: bytes) -> bytes:
        """Use some of the bytes and return the rest; all of them when more must come first."""
        match self._phase:
            case _Phase.HEAD:
                return self._read_head(data)
            case _Phase.LENGTH:
                return self._read_body(data, _Phase.DONE)
            case _Phase.CHUNK:
                return self._read_body(data, _Phase.CHUNK_END)
            case _Phase.CHUNK_SIZE:
                return self._read_size(data)
            case _Phase.CHUNK_END:
                return self._read_chunk_end(data)
            case _Phase.TRAILER:
                return self._read_trailer(data)
            case _:
                self._take(data)
                return b""

    def _read_head(self, data: bytes) -> bytes:
        # Said at once: another protocol may never send the empty line.
        if data[:7] != b"HTTP/1."[: len(data)]:
            raise WireError("status line", "is not HTTP/1", data)
        end = data.find(b"\r\n\r\n") + 4
        # The 3 bytes may be a part of the empty line: however the bytes are split, the limit holds
        # for the head alone.
        if max(end - 4, len(data) - 3 if end < 4 else 0) > HEAD_LIMIT:
            raise WireError("head", f"is longer than {HEAD_LIMIT} bytes", data)
        if end < 4:
            return data
        head = parse_head(data[:end])
        if not head.interim:
            self.head = head
            self._phase = self._framing(head)
        return data[end:]

    def _framing(self, head: Head) -> _Phase:
        if self._bodiless or head.status in {101, 204, 304}:
            return _Phase.DONE
        if head.chunked:
            return _Phase.CHUNK_SIZE
        if head.length is None:
            return _Phase.UNTIL_CLOSE
        self._left = head.length
        return _Phase.LENGTH if head.length else _Phase.DONE

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.body is not None and len(self.body) < BODY_KEPT:
            self.body += data[: BODY_KEPT - len(self.body)]

    def _read_body(self, data: bytes, then: _Phase) -> bytes:
        part = data[: self._left]
        self._take(part)
        self._left -= len(part)
        if not self._left:
            self._phase = then
        return data[len(part) :]

    def _read_size(self, data: bytes) -> bytes:
        line, rest = _line(data, "chunk size")
        if line is None:
            return data
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise WireError("chunk size", "is not hexadecimal", line)
        self._left = int(digits, 16)
        self._phase = _Phase.CHUNK if self._left else _Phase.TRAILER
        return rest

    def _read_chunk_end(self, data: bytes) -> bytes:
        if data[:2] != b"\r\n"[: len(data)]:
            raise WireError("chunk", "does not end with CRLF", data)
        if len(data) < 2:
            return data
        self._phase = _Phase.CHUNK_SIZE
        return data[2:]

    def _read_trailer(self, data: bytes) -> bytes:
        line, rest = _line(data, "trailer")
        if line is None:
            return data
        if not line:
            self._phase = _Phase.DONE
        return rest


def _line(data: bytes, where: str) -> tuple[bytes | None, bytes]:
    line, end, rest = data.partition(b"\r\n")
    if len(line.removesuffix(b"\r")) > LINE_LIMIT:
        raise WireError(where, f"is longer than {LINE_LIMIT} bytes", data)
    return (line, rest) if end else (None, data)
