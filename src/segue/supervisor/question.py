"""An HTTP request that a worker is asked, and which answers are good: a value, checked once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segue.errors import UsageError
from segue.supervisor.control.requests import shown

USUAL = "200-299"
_HTTPS = "https:"
_PATH = re.compile(r"/[!-~]*")  # no space and no line end: they would end the request line
_HOST = re.compile(r"[0-9A-Za-z._-]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.%]{2,60}\](:\d{1,5})?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~]*?)[ \t]*")  # RFC 9110, 5
_STATUSES = re.compile(r"([1-5]\d\d)(?:-([1-5]\d\d))?")
# How the request is framed, and when the connection ends, is not for the user to say.
_OURS = {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}


@dataclass(frozen=True, slots=True)
class Question:
    """``GET path``, by HTTPS or not, without a look at the certificate."""

    path: str
    https: bool = False
    host: str = ""  # the Host header, and the name in SNI; "" for the address that is asked
    headers: tuple[tuple[str, str], ...] = ()
    statuses: tuple[range, ...] = (range(200, 300),)

    @classmethod
    def of(
        cls, flag: str, path: str, host: str = "", headers: Sequence[str] = (), statuses: str = ""
    ) -> Question:
        """Read a path such as /health or https:/health, and the rest as flags have it.

        ``flag`` is where the path comes from.  Raises UsageError.
        """
        bare = path.removeprefix(_HTTPS)
        if not _PATH.fullmatch(bare):
            raise UsageError(
                f"{flag} must be a path such as /health or https:/health, of ASCII characters"
                f" without spaces (got {shown(path)})"
            )
        return cls(bare, bare != path, _host(host), _headers(headers), _ranges(statuses))

    def __str__(self) -> str:
        """For a sentence."""
        return f"GET {_HTTPS if self.https else ''}{self.path}"

    @property
    def name(self) -> str:
        """The host without a port, as SNI has it."""
        return re.sub(r":\d+$", "", self.host)

    def request(self, address: str) -> bytes:
        """The request as it is sent to this address."""
        given = {name.lower() for name, _ in self.headers}
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {self.host or address}"]
        if "user-agent" not in given:
            lines.append("User-Agent: segue")
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()

    def accepts(self, status: int) -> bool:
        """An answer with this status is good."""
        return any(status in one for one in self.statuses)


def _host(text: str) -> str:
    if text and not _HOST.fullmatch(text):
        raise UsageError(
            "--ready-host must be a name such as shop.example, or an address, with or without a"
            f" port (got {shown(text)})"
        )
    return text


def _headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for text in texts:
        parts = _HEADER.fullmatch(text)
        if parts is None:
            raise UsageError(
                "--ready-header must be 'Name: value' on one line, of ASCII characters (got"
                f" {shown(text.partition(':')[0])})"  # the value may be a secret
            )
        name, value = parts[1], parts[2]
        if name.lower() == "host":
            raise UsageError(f"--ready-header {name}: use --ready-host {value or 'NAME'}")
        if name.lower() in _OURS:
            raise UsageError(f"--ready-header {name}: this header is Segue's own to send")
        found.append((name, value))
    return tuple(found)


def _ranges(text: str) -> tuple[range, ...]:
    found = []
    for part in (text or USUAL).split(","):
        ends = _STATUSES.fullmatch(part.strip())
        low, high = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if low > high:
            raise UsageError(
                "--ready-status must be a list of statuses between 100 and 599, such as 200-399 or"
                f" 200,204,301 (got {shown(text)})"
            )
        found.append(range(low, high + 1))
    return tuple(found)
