"""A process that takes a connection out of repair mode when whoever put it there dies.

Repair mode outlives its cause: the owner of the connection would get EPERM and its client no
answer.  Between the call that enters it and the one that disconnects lie some microseconds, and
kill -9 has no handler.  So a second process has a duplicate of each such connection meanwhile.  It
has a session of its own, for what kills a process group.  What kills both leaves such a connection
to nobody.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence

from segue.errors import KernelError, SegueError
from segue.linux import scm_rights, tcp_repair
from segue.linux.closing import Closing

_TAKE, _LET_GO = b"t", b"l"


class Guard(Closing):
    """The process, started and waited for by this."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = ours

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def take(self, connections: Sequence[socket.socket]) -> None:
        """From here on they are looked after, even if the process is not there yet.

        Raises KernelError.
        """
        for start in range(0, len(connections), scm_rights.MOST):
            some = connections[start : start + scm_rights.MOST]
            scm_rights.send(self._connection, _TAKE, [one.fileno() for one in some])

    def let_go(self) -> None:
        """What was taken is over.  That the process is gone is said by the next ``take``."""
        with contextlib.suppress(KernelError):
            scm_rights.send(self._connection, _LET_GO, [])

    def close(self) -> None:
        """End the process; twice is no error."""
        self._connection.close()
        self._process.wait()


def main() -> None:
    """The process: its standard input is the other end."""
    held: list[socket.socket] = []
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        while True:
            try:
                payload, numbers = scm_rights.receive(connection, 1)
            except SegueError:
                break
            if not payload:
                break
            held += [socket.socket(fileno=one) for one in numbers]
            if payload == _LET_GO:
                _close(held)
    for one in held:
        with contextlib.suppress(SegueError, OSError):
            if tcp_repair.repaired(one):
                tcp_repair.leave(one)
            if not tcp_repair.connected(one):
                tcp_repair.finish(one)
    _close(held)


def _close(held: list[socket.socket]) -> None:
    for one in held:
        one.close()
    held.clear()


if __name__ == "__main__":
    main()
