"""One question by HTTP/1.1 over a connection that exists: sent and read without ever waiting."""

from __future__ import annotations

import functools
import socket
import ssl

from segue.supervisor.question import Question

_MOST = 1 << 16  # bytes until the status line of the last answer; none is so long


class Asking:
    """Asks over this socket, which it owns."""

    def __init__(self, question: Question, address: str, connection: socket.socket) -> None:
        self.question = question
        self.answered: int | None = None  # the status
        self.failed = ""  # why there will be no answer
        self._rest = question.request(address)
        self._answer = b""
        self._greeted = not question.https
        self.socket = connection
        if question.https:
            self.socket = _context().wrap_socket(
                connection,
                server_hostname=question.name or None,
                do_handshake_on_connect=False,
            )

    def step(self) -> None:
        """Do what can be done now.  ``answered`` or ``failed`` then says whether it is over."""
        try:
            self._step()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            during = "the TLS handshake failed: " if not self._greeted else ""
            self.failed = f"{self.question}: {during}{_reason(error)}"

    def _step(self) -> None:
        if not self._greeted:
            assert isinstance(self.socket, ssl.SSLSocket)
            self.socket.do_handshake()
            self._greeted = True
        while self._rest:
            self._rest = self._rest[self.socket.send(self._rest) :]
        while self.answered is None and not self.failed:
            data = self.socket.recv(_MOST)
            self._answer += data
            self._read(ended=not data)

    def _read(self, *, ended: bool) -> None:
        """Find the status of the final answer; those of 1xx come before it (RFC 9110, 15.2)."""
        while b"\r\n" in self._answer:
            first = self._answer.split(b"\r\n", 1)[0].split(b" ")
            if len(first) < 2 or not first[0].startswith(b"HTTP/") or not first[1].isdigit():
                self.failed = f"{self.question}: the answer is not HTTP/1.1"
                return
            status = int(first[1][:4])
            interim = 100 <= status < 200 and not self.question.accepts(status)
            _, end, rest = self._answer.partition(b"\r\n\r\n")
            if not interim:
                self.answered = status
                return
            if not end:
                break
            self._answer = rest
        if ended or len(self._answer) > _MOST:
            self.failed = f"{self.question}: it hung up without an answer"

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@functools.cache
def _context() -> ssl.SSLContext:
    """Our own worker is asked, over loopback: its certificate may be in any name."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or type(error).__name__
