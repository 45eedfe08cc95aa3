"""A process that takes a connection out of repair mode when whoever put it there dies.

Repair mode outlives its cause: the owner of the connection would get EPERM and its client no
answer.  Between the call that enters it and the one that disconnects lie some microseconds, and
kill -9 has no handler.  So a duplicate of each such connection lies in the queue of a socket
meanwhile, where it costs the second process nothing: that one reads the queue only when the first
has died.  It has a session of its own, for what kills a process group.  What kills both leaves such
a connection to nobody.

Whoever carries takes the duplicates out of the queue again.  That is done when it returns, which
counts: a server may rely on close(2) to take a connection out of its epoll set, and with a
duplicate anywhere it is not taken out (epoll(7)).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys
from collections.abc import Sequence

from segue.errors import KernelError, SegueError
from segue.linux import scm_rights, tcp_repair
from segue.linux.closing import Closing

_TAKE = b"t"


class Guard(Closing):
    """The process, started and waited for by this."""

    def __init__(self) -> None:
        self._into, self._queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._queue.setblocking(False)
        self._alive, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._queue.fileno())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                pass_fds=[self._queue.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def take(self, connections: Sequence[socket.socket]) -> None:
        """From here on they are looked after, even if the process is not there yet.

        Raises KernelError.
        """
        if self._process.poll() is not None:
            raise KernelError("sendmsg", errno.EPIPE, "giving duplicates to a process that is gone")
        for start in range(0, len(connections), scm_rights.MOST):
            some = connections[start : start + scm_rights.MOST]
            scm_rights.send(self._into, _TAKE, [one.fileno() for one in some])

    def let_go(self) -> None:
        """What was taken is over, and no duplicate of it is left here; twice is no error."""
        _close(_taken(self._queue))

    def close(self) -> None:
        """End the process; twice is no error."""
        self._alive.close()
        self._process.wait()
        self._into.close()
        self._queue.close()


def main() -> None:
    """The process: its standard input ends with whoever started it."""
    with socket.socket(fileno=int(sys.argv[1])) as queue:
        sys.stdin.buffer.read()
        held = _taken(queue)
    for one in held:
        with contextlib.suppress(SegueError, OSError):
            if tcp_repair.repaired(one):
                tcp_repair.leave(one)
            if not tcp_repair.connected(one):
                tcp_repair.finish(one)
    _close(held)


def _taken(queue: socket.socket) -> list[socket.socket]:
    """What lies in it, which does not block."""
    held: list[socket.socket] = []
    with contextlib.suppress(KernelError, OSError):
        while True:
            payload, numbers = scm_rights.receive(queue, 1)
            held += [socket.socket(fileno=one) for one in numbers]
            if not payload:
                break
    return held


def _close(held: list[socket.socket]) -> None:
    for one in held:
        one.close()


if __name__ == "__main__":
    main()
