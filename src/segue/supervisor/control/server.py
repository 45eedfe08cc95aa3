"""The control socket: one request a connection, lines of JSON both ways.

A request is ``{"do": VERB, ...}``; answers are ``{"say": TEXT}`` while it goes on and at last
``{"exit": CODE, ...}``.  The socket is 0600 and every peer's uid is checked by SO_PEERCRED.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from segue.errors import KernelError, SegueError, UsageError
from segue.linux import scm_rights
from segue.linux.sockopt import peer_credentials
from segue.supervisor.control.paths import Places, instances

_LONGEST_REQUEST = 1 << 16
_WAITING = 16  # askers whom the supervisor has not accepted yet; a person and a few scripts
_ANSWER_BYTES = 1 << 20  # a client that does not read loses what is more
# As bytes; the status of 512 workers at ten addresses has some 600 KB.
_LONGEST_ANSWER = 1 << 22
_MOST_DIGITS = 20  # of 2**64 - 1, the largest number that a map holds
_DIGITS = re.compile(f"[0-9]{{1,{_MOST_DIGITS}}}")
_SHOWN = 60  # characters of a value that is refused
# A table of 4,096 entries cannot show so large a difference anyhow.
MOST_WEIGHT = 1e6
_SILENCE_SECONDS = 5.0  # a supervisor that runs answers within milliseconds


class Asker:
    """One connected client; answers that it does not read are dropped, not waited for."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pending = b""

    def fileno(self) -> int:
        """For the selector."""
        return self.connection.fileno()

    def request(self) -> dict[str, Any] | None:
        """The request once it is whole; None until then.  Raises UsageError on nonsense."""
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
            read = json.loads(self.pending.partition(b"\n")[0])
        except (ValueError, RecursionError):
            raise UsageError("a request is one line of JSON") from None
        if not isinstance(read, dict) or not isinstance(read.get("do"), str):
            raise UsageError('a request has a verb: {"do": "status"}')
        return read

    def say(self, text: str) -> None:
        """One line of progress."""
        self._send({"say": text})

    def end(self, code: int, **more: Any) -> None:
        """The last answer; the connection is closed."""
        self._send({"exit": code, **more})
        self.close()

    def _send(self, answer: dict[str, Any]) -> None:
        # A client that went away, or does not read, must not hold the supervisor up: what its
        # buffer does not take is lost to it, and half a line ends the conversation.
        data = json.dumps(answer).encode() + b"\n"
        with contextlib.suppress(OSError):
            if self.connection.send(data) < len(data):
                self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class Control:
    """The listening control socket.  Descriptor and file are this object's to close."""

    def __init__(self, path: str) -> None:
        # The caller holds the instance's lock, so whatever stands here is stale.
        if os.path.exists(path):
            os.unlink(path)
        self.path = path
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        before = os.umask(0o177)
        try:
            self.socket.bind(path)
        except OSError as error:
            self.socket.close()
            doing = f"making the control socket {path}"
            raise KernelError("bind", error.errno or 0, doing) from error
        finally:
            os.umask(before)
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

    def accept(self) -> Asker | None:
        """The next client, or None when it went away or is another user's."""
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
        asker = Asker(connection)
        if uid not in {0, os.geteuid()}:
            asker.end(1, error=f"this instance belongs to uid {os.geteuid()}, you are uid {uid}")
            return None
        return asker

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


def number(request: dict[str, Any], key: str, default: float | None = None) -> float:
    """A number of a request.  Raises UsageError for anything else."""
    value = request.get(key, default)
    if not isinstance(value, bool) and isinstance(value, int | float):
        with contextlib.suppress(OverflowError):  # an integer may be larger than any float
            if math.isfinite(found := float(value)):
                return found
    raise UsageError(f"{key} is a number, not {short(value)}")


def whole_number(value: object) -> int:
    """A whole number, not below 0, that JSON holds as one or as a key.  Raises UsageError."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_MOST_DIGITS:
        return value
    raise UsageError(f"a whole number is needed, not {short(value)}")


def short(value: object) -> str:
    """A value of a request for an error: its beginning, quoted."""
    told = repr(value)
    return told if len(told) <= _SHOWN else f"{told[:_SHOWN]}..."


def factors(request: dict[str, Any]) -> dict[int, float]:
    """The weights of a request, by worker.  Raises UsageError."""
    given = request.get("weights")
    if not isinstance(given, dict) or not given or not all(map(_DIGITS.fullmatch, given)):
        raise UsageError('weights are given by worker: {"3": 0.5}')
    found = {int(worker): number(given, worker) for worker in given}
    for worker, factor in found.items():
        if not 0 <= factor <= MOST_WEIGHT:
            raise UsageError(
                f"worker{worker} cannot have a weight of {factor:g}: it is between 0 and"
                f" {MOST_WEIGHT:,.0f}"
            )
    return found


def find(name: str = "", control: str = "") -> str:
    """The control socket to talk to: the given one, the named one, or the only one.

    Raises UsageError when none or several could be meant.
    """
    if control:
        return control
    if name:
        return Places.of(name).control
    known = instances()
    if len(known) == 1:
        return Places.of(known[0]).control
    if not known:
        raise UsageError("no instance of yours is running; start one with segue run")
    raise UsageError(f"several instances are running; pick one with --name: {', '.join(known)}")


def ask(path: str, request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Send one request and pass progress to ``say`` until the last answer, which is returned.

    Raises SegueError when nobody answers at ``path`` within five seconds, or hangs up without a
    last answer.
    """
    for answer in _answers(path, request):
        if "exit" in answer:
            return answer
        say(str(answer.get("say", "")))
    raise SegueError(
        f"the supervisor at {path} hung up without an answer; it may have been stopped or killed:"
        " segue status tells"
    )


@contextlib.contextmanager
def borrow(path: str, request: dict[str, Any]) -> Iterator[tuple[socket.socket, tuple[int, ...]]]:
    """Send one request that is answered with descriptors, and stay connected inside the block.

    Yields the connection, readable when the supervisor ends it, and the descriptors, which are the
    caller's to close.  Raises SegueError as ``ask``, and when the supervisor refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        _connect(connection, path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        try:
            data, descriptors = scm_rights.receive(connection, _LONGEST_REQUEST)
        except KernelError as error:
            if error.errno in {errno.EAGAIN, errno.EWOULDBLOCK}:
                raise _silent(path) from None
            raise
        answer = _answer(data or b"{}", path)
        if "error" in answer or not descriptors:
            raise SegueError(str(answer.get("error", f"the supervisor at {path} hung up")))
        yield connection, tuple(descriptors)


def _answers(path: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        _connect(connection, path)
        # A supervisor that refuses us may have answered and hung up already: the answer is there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
            while line := _line(lines, path):
                connection.settimeout(None)  # it lives: what it does now may take its time
                yield _answer(line, path)


def _connect(connection: socket.socket, path: str) -> None:
    connection.settimeout(_SILENCE_SECONDS)
    try:
        connection.connect(path)
    except BlockingIOError:  # so many wait to be accepted that there is no room for this one
        raise _silent(path) from None
    except FileNotFoundError:
        raise SegueError(f"no instance has its control socket at {path}") from None
    except ConnectionRefusedError:
        raise SegueError(
            f"nobody listens at {path}: the supervisor is gone and its socket is stale;"
            " segue run with the same name takes its workers over"
        ) from None
    except PermissionError:
        raise SegueError(f"{path} belongs to another user; ask as that user or as root") from None
    except OSError as error:
        raise SegueError(f"{path} is no control socket: {error.strerror}") from None


def _line(lines: BinaryIO, path: str) -> bytes:
    try:
        line = lines.readline(_LONGEST_ANSWER)
    except TimeoutError:
        raise _silent(path) from None
    if len(line) == _LONGEST_ANSWER:
        raise _nonsense(path, f"a line has more than {_LONGEST_ANSWER} bytes")
    return line


class _Answer(dict[str, Any]):
    """An answer in which nothing that is asked for may be missing."""

    path = ""

    def __missing__(self, key: str) -> Any:
        raise _nonsense(self.path, f"{key!r} is missing")


def _answer(line: bytes, path: str) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        raise _nonsense(path, "it is not JSON") from None
    if not isinstance(read, dict) or not isinstance(read.get("exit", 0), int):
        raise _nonsense(path, "it has no exit code")
    answer = _Answer(read)
    answer.path = path
    return answer


def _nonsense(path: str, why: str) -> SegueError:
    return SegueError(f"what answers at {path} is no supervisor, or one of another version: {why}")


def _silent(path: str) -> SegueError:
    return SegueError(
        f"the supervisor at {path} does not answer; is it stopped (SIGSTOP, a debugger)?"
    )
