"""The control socket: one request a connection, lines of JSON both ways.

A request is ``{"do": VERB, ...}``.  Answers are ``{"say": TEXT}`` as progress and ``{"exit": CODE,
...}`` at the end.  The socket is 0600 and every peer's uid is checked by SO_PEERCRED.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from typing import Any

from segue import strict_json
from segue.errors import KernelError, UsageError
from segue.linux import openat, proc
from segue.linux.sockopt import peer_credentials
from segue.visible import visible

_LONGEST_REQUEST = 1 << 16
_WAITING = 16  # clients not accepted yet; enough for a person and a few scripts
_ANSWER_BYTES = 1 << 20  # a client that does not read loses the rest
_SHOWN = 120  # characters of a command line


class Client:
    """One connected client.  If it does not read its answers, they are dropped."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pending = b""

    def fileno(self) -> int:
        """For the selector."""
        return self.connection.fileno()

    @property
    def pid(self) -> int:
        """The process that connected; 0 if it is not in our pid namespace.  Raises OSError."""
        return peer_credentials(self.connection)[0]

    @property
    def who(self) -> str:
        """The user and the process that asks, and the process that this belongs to, in words."""
        pid, uid, _ = peer_credentials(self.connection)
        line = [one for one in proc.line_above(pid)[:2] if one > 1] if pid else []
        asked = " of ".join(f"{_shown(one)} (pid {one})" for one in line)
        return f"{openat.user(uid)}{f': {asked}' if asked else ''}"

    @property
    def gone(self) -> bool:
        """It has closed its connection, and reads no answer."""
        ready = select.poll()
        ready.register(self.connection, 0)
        return any(event & select.POLLHUP for _, event in ready.poll(0))

    def request(self) -> dict[str, Any] | None:
        """The request, or None until it is whole.  Raises UsageError if it is not a request."""
        try:
            data = self.connection.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return None
        self.pending += data
        if b"\n" not in self.pending:
            if not data or len(self.pending) > _LONGEST_REQUEST:
                raise UsageError("a request is one line of JSON")
            return None
        try:
            read = strict_json.loads(self.pending.partition(b"\n")[0])
        except ValueError:
            raise UsageError("a request is one line of JSON") from None
        if not isinstance(read, dict) or not isinstance(read.get("do"), str):
            raise UsageError('a request must have a verb, as in {"do": "status"}')
        return read

    def say(self, text: str) -> None:
        """Send one line of progress."""
        self._send({"say": text})

    def tell(self, record: dict[str, Any]) -> None:
        """Send one line that is neither progress nor the end."""
        self._send(record)

    def end(self, code: int, **more: Any) -> None:
        """Send the last answer and close the connection."""
        self._send({"exit": code, **more})
        self.close()

    def _send(self, answer: dict[str, Any]) -> None:
        # A client that is gone or does not read must not delay the supervisor.  It loses what its
        # buffer cannot take, and half a line ends the conversation.
        data = json.dumps(answer).encode() + b"\n"
        with contextlib.suppress(OSError):
            if self.connection.send(data) < len(data):
                self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _shown(pid: int) -> str:
    """What a process was started with, made short: a script without its interpreter."""
    name, line = proc.command(pid), proc.command_line(pid)
    rest = next((line[at + 1 :] for at, one in enumerate(line) if proc.program(one) == name), ())
    found = visible(" ".join((name, *rest)))
    return found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."


class Control:
    """The listening control socket.  Descriptor and file are this object's to close."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            # The caller holds the instance's lock, so an existing file is left over.
            with openat.around(path) as (here, name):
                here.bind(self.socket, name, 0o600)
        except UsageError:
            self.socket.close()
            raise
        except OSError as error:
            self.socket.close()
            doing = f"making the control socket {path}"
            raise KernelError("bind", error.errno or 0, doing) from error
        self.socket.listen(_WAITING)

    @classmethod
    def of(cls, listening: socket.socket, path: str) -> Control:
        """The control socket that a predecessor handed over."""
        made = cls.__new__(cls)
        made.path, made.socket = path, listening
        listening.setblocking(False)
        return made

    def fileno(self) -> int:
        """For the selector."""
        return self.socket.fileno()

    def accept(self) -> Client | None:
        """The next client, or None if it is gone or belongs to another user."""
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return None
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ANSWER_BYTES)
            _, uid, _ = peer_credentials(connection)
        except OSError:
            connection.close()
            return None
        client = Client(connection)
        if uid not in {0, os.geteuid()}:
            client.end(1, error=f"this instance belongs to uid {os.geteuid()}, you are uid {uid}")
            return None
        return client

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        openat.remove(self.path)
