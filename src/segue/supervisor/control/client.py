"""The client side of the control socket: find the instance, send a request, read answers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from segue import strict_json
from segue.errors import KernelError, SegueError, UsageError
from segue.linux import openat, scm_rights
from segue.linux.sockopt import peer_credentials
from segue.supervisor.control import requests
from segue.supervisor.control.instances import Running, by_workers, instances
from segue.supervisor.control.paths import Paths, check_name
from segue.supervisor.control.requests import Request
from segue.supervisor.control.status import Reader, Status
from segue.visible import printable_json, whole

_ANSWER_WITH_DESCRIPTORS = 1 << 16
# Bytes.  The status of 512 workers at ten addresses has about 600 KB.
_LONGEST_ANSWER = 1 << 22
_SILENCE_SECONDS = 5.0  # a running supervisor answers within milliseconds
_MORE_SECONDS = 20.0  # but it does nothing else while it tries new code, for so long at most


def find(name: str = "", control: str = "") -> Running:
    """The named instance, or the only one that runs; with ``control``, whatever answers there.

    It is looked for in every place where instances of this user may be.  A named one that is in
    none is found by what the environment of its workers says.  Root finds those of other users too,
    if it has none itself.  Raises UsageError if no instance runs, or if several do and none is
    named.
    """
    me = os.geteuid()
    if control:
        return Running("", control, None)
    if name:
        check_name(name)
    found = [one for one in instances() if name in {"", one.name}]
    known = [one for one in found if one.own] or found or (by_workers(name) if name else [])
    if len(known) == 1:
        return known[0]
    if not known and name:
        return Running(name, Paths.of(name).control, me)  # which says why no process answers there
    if not known:
        if elsewhere := by_workers():
            listed = ", ".join(one.where for one in elsewhere)
            raise UsageError(
                f"no instance of yours is in a usual place; pick with --name: {listed}"
            )
        raise none_runs()
    if name:
        paths = ", ".join(one.control for one in known)
        raise UsageError(
            f"several instances named {name} are running; pick one of {paths} with --control"
        )
    listed = ", ".join(one.where or one.name for one in known)
    raise UsageError(f"several instances are running; pick one with --name: {listed}")


def none_runs() -> UsageError:
    """No instance is found for this user; who is not root may have started one with sudo."""
    why = "no instance of yours is running; start one with segue run"
    return UsageError(f"{why}, or ask root's with sudo" if os.geteuid() else why)


def ask(to: Running, request: Request, say: Callable[[str], None]) -> dict[str, Any]:
    """Send one request and pass progress to ``say`` until the last answer, which is returned.

    Raises as ``converse``.
    """
    return _converse(to, request.to_json(), say)


def converse(path: str, plain: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """As ``ask``, for a control socket by its path and a request as plain values of any kind.

    Raises SegueError if no process answers within 25 seconds, if it is another user's, or if the
    connection ends without a last answer.
    """
    return _converse(find(control=path), plain, say)


def _converse(to: Running, plain: Mapping[str, Any], say: Callable[[str], None]) -> _Answer:
    for answer in _answers(to, plain, say):
        if "exit" in answer:
            return answer
        say(str(answer.get("say", "")))
    raise SegueError(
        f"the supervisor at {to.control} closed the connection without an answer; it may have been"
        " stopped or killed: see segue status"
    )


def status(to: Running, reader: Reader | None = None) -> Status:
    """The status of this instance, with visible characters only.

    Who looks often gives the ``reader`` of its earlier looks.  Raises SegueError as ``ask``, if the
    supervisor refuses, and if the answer is not a status.
    """
    asked = requests.ShowStatus(brief=reader is not None and reader.brief)
    answer = _converse(to, asked.to_json(), lambda _: None)
    if "error" in answer and reader is not None and reader.brief:
        reader.brief = False
        return status(to, reader)
    if "error" in answer:
        raise SegueError(str(answer["error"]))
    plain = answer.get("status")
    return (reader or Reader()).read(plain if answer.printable else whole(plain))


@contextlib.contextmanager
def borrow(to: Running, request: Request) -> Iterator[tuple[socket.socket, tuple[int, ...]]]:
    """Send one request whose answer has descriptors, and stay connected inside the block.

    Yields the connection and the descriptors.  The connection is readable when the supervisor ends
    it.  The caller closes the descriptors.  Raises SegueError as ``ask``, and if the supervisor
    refuses.
    """
    path = to.control
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        _connect(connection, to)
        connection.sendall(json.dumps(request.to_json()).encode() + b"\n")
        try:
            data, descriptors = scm_rights.receive(connection, _ANSWER_WITH_DESCRIPTORS)
        except KernelError as error:
            if error.errno in {errno.EAGAIN, errno.EWOULDBLOCK}:
                raise _silent(path) from None
            raise
        answer = parsed(data or b"{}", path)
        if "error" in answer or not descriptors:
            raise SegueError(
                str(answer.get("error", f"the supervisor at {path} closed the connection"))
            )
        yield connection, tuple(descriptors)


def _answers(
    to: Running, plain: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[_Answer]:
    path = to.control
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        _connect(connection, to)
        # A supervisor that refuses may already have answered and closed: its answer can be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(json.dumps(plain).encode() + b"\n")
        _await_answer(connection, path, say)
        with connection.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
            while line := _line(lines, path):
                connection.settimeout(None)  # it has answered, and the work may take long
                yield parsed(line, path)


def _await_answer(connection: socket.socket, path: str, say: Callable[[str], None]) -> None:
    """Wait until there is something to read.  If nobody does, the request is not carried out."""
    ready = select.poll()
    ready.register(connection, select.POLLIN)
    if not ready.poll(1000 * _SILENCE_SECONDS):
        say(
            f"the supervisor has not answered for {_SILENCE_SECONDS:g} s, and may be trying new"
            f" code: waiting for {_MORE_SECONDS:g} s more"
        )
        if not ready.poll(1000 * _MORE_SECONDS):
            raise _silent(path)


def _connect(connection: socket.socket, to: Running) -> None:
    path = to.control
    connection.settimeout(_SILENCE_SECONDS)
    try:
        connection.connect(path)
    except BlockingIOError:  # its accept queue is full
        raise _silent(path) from None
    except FileNotFoundError:
        raise SegueError(
            f"there is no control socket at {path}: no instance of that name is running;"
            " segue status shows those that are"
        ) from None
    except ConnectionRefusedError:
        if not Path(path).is_socket():
            raise SegueError(f"{path} is not a socket") from None
        raise SegueError(
            f"no process listens at {path}: the supervisor has ended and left its socket;"
            " segue run with the same name takes its workers over"
        ) from None
    except PermissionError:
        raise SegueError(f"{path} belongs to another user; ask as that user or as root") from None
    except OSError as error:
        raise SegueError(f"{path} is not a control socket: {error.strerror}") from None
    _, uid, _ = peer_credentials(connection)
    if not to.may_answer(uid):
        raise SegueError(
            f"the process that answers at {path} is {openat.user(uid)}'s, who could have put it"
            " there: it is not asked"
        )


def _line(lines: BinaryIO, path: str) -> bytes:
    try:
        line = lines.readline(_LONGEST_ANSWER)
    except TimeoutError:
        raise _silent(path) from None
    if len(line) == _LONGEST_ANSWER:
        raise _nonsense(path, f"a line has more than {_LONGEST_ANSWER} bytes")
    return line


class _Answer(dict[str, Any]):
    """An answer; reading a key that is missing raises SegueError."""

    path = ""
    printable = False  # every string in it is, so that none needs a look

    def __missing__(self, key: str) -> Any:
        raise _nonsense(self.path, f"{key!r} is missing")


def parsed(line: bytes, path: str) -> _Answer:
    """One line of an answer.  Raises SegueError if no supervisor can have sent it."""
    try:
        read = strict_json.loads(line)
    except ValueError:
        raise _nonsense(path, "it is not JSON") from None
    if not isinstance(read, dict) or not isinstance(read.get("exit", 0), int):
        raise _nonsense(path, "it has no exit code")
    answer = _Answer(read)
    answer.path, answer.printable = path, printable_json(line)
    return answer


def _nonsense(path: str, why: str) -> SegueError:
    return SegueError(
        f"the process that answers at {path} is not a supervisor, or has another version: {why}"
    )


def _silent(path: str) -> SegueError:
    return SegueError(
        f"the supervisor at {path} does not answer; is it stopped (SIGSTOP, a debugger)?"
    )
