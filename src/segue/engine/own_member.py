"""A listener of our own in a group, for an instant: by it a program is attached and looked for.

The listeners of workers of another user have their filter locked (SO_LOCK_FILTER), so that such a
worker cannot attach a program for the whole group.  The lock is the socket's, is never taken off
again, and binds root's own descriptor of it too; it does not bind another member (measured on
6.18).  One that stayed would be there to be selected whenever the kernel's hash decides; one that
is there for 0.02 ms, or 0.6 ms with a connection, has no share and gets nothing while a program
decides.  Through a socket that is bound only, or was shut down, a program reaches no group.

The kernel tells nobody which program a group has.  So the program is asked to send a connection of
ours to our own member, which it does every time, and everything else by chance at most.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from segue.address import Address
from segue.engine import classic_program
from segue.errors import KernelError
from segue.linux import cbpf, sockopt
from segue.linux.sock_diag import SockDiag

_SOON_S = 0.002
_TRIES = 32  # with one other member each has an even chance
_CONNECT_S = 0.2  # over loopback a handshake is over when connect() returns, mostly
_ARRIVE_S = 0.1  # from when the client has seen its end of it


@contextlib.contextmanager
def able(listener: socket.socket) -> Iterator[socket.socket]:
    """A member of the listener's group through which a program can be attached: itself, or where
    that is locked one of our own.  Raises KernelError.
    """
    if not sockopt.filter_locked(listener):
        yield listener
        return
    with _beside(listener, classic_program.drop_all()) as own:
        yield own


def _beside(listener: socket.socket, kept: list[cbpf.Instruction]) -> socket.socket:
    """A new member of the listener's group, which hears no more than the filter lets it.

    A client that the kernel's hash sends here is not answered, and comes to another when it asks
    again; answered, it would be reset in a moment.  Not every user may attach a filter.
    """

    def deafen(made: socket.socket) -> None:
        with contextlib.suppress(KernelError):
            cbpf.attach_filter(made, kept)

    address = sockopt.local_address(listener)
    return sockopt.open_listener(address, backlog=1, like=listener, prepare=deafen)


class OwnMember:
    """A member and a client that connects to the group's address; closes both."""

    def __init__(self, like: socket.socket, port: int) -> None:
        """The client's port is this one if it can be used, 0 for any.

        Raises KernelError, OSError when there can be no such pair.
        """
        self.address = sockopt.local_address(like)
        self._near = sockopt.near(self.address)
        self.listener = _beside(like, classic_program.drop_all())
        self.listener.setblocking(False)
        try:
            self._client = self._aim(port)
            self.port: int = self._client.getsockname()[1]
            with contextlib.suppress(KernelError):
                cbpf.attach_filter(self.listener, classic_program.keep_only(self.port))
        except BaseException:
            self.listener.close()
            raise

    def spare(self) -> socket.socket:
        """Another client like ours, for the next time.  Raises as the constructor."""
        return self._aim(0)

    def _aim(self, port: int) -> socket.socket:
        """A client whose connection the kernel's hash would not send to our member.

        So whoever sends it there is the program: a lookup by sock_diag(7) has no packet for a
        program to look at, and is answered by the hash.
        """
        mine = sockopt.cookie(self.listener)
        interface = 0
        where = sockopt.socket_address(self.address, self._near, self.address.port)
        if self.address.zone:
            interface = int(where[3])
        with SockDiag() as diag:
            for wanted in (port, *[0] * _TRIES):
                try:
                    client = bound(self.address, wanted)
                except OSError:
                    if wanted:
                        continue
                    raise
                near = (self._near, client.getsockname()[1])
                here = (self._near, self.address.port)
                found = diag.by_hash(self.address.family, here, near, interface=interface)
                # A port that was used a moment ago shows its TIME_WAIT, not the listener.
                if found is not None and found.cookie != mine and not found.peer_port:
                    return client
                client.close()
        doing = f"finding a port from which to ask for the program at {self.address}"
        raise KernelError("bind", errno.EADDRINUSE, doing)

    def reached(self, restore: Callable[[], None]) -> bool | None:
        """Connect; whether that came to our member.  None when it cannot be told.

        Where it has not come, ``restore`` is called before it is waited for any longer: our member
        is one more to whom the kernel's hash sends others.  To be called once.
        """
        found = self._connect(restore)
        if not found:
            # Whoever has it now is rid of it at once.
            sockopt.reset_at_close(self._client)
        return found

    def _connect(self, restore: Callable[[], None]) -> bool | None:
        poll, client = select.poll(), self._client
        poll.register(self.listener, select.POLLIN)
        # A client from a port in TIME_WAIT is refused where the kernel does not use it again.
        where = sockopt.socket_address(self.address, self._near, self.address.port)
        with contextlib.suppress(OSError):
            client.connect_ex(where)
        end, connected, restored = time.monotonic() + _CONNECT_S, False, False
        while (left := end - time.monotonic()) > 0:
            if poll.poll(1000 * min(left, _SOON_S)):
                with contextlib.suppress(BlockingIOError):
                    child, peer = self.listener.accept()
                    with child:
                        if peer[1] == self.port:
                            client.shutdown(socket.SHUT_WR)  # so that TIME_WAIT is the client's
                            return True
            elif not restored:
                restore()
                restored = True
            if not connected and _is_connected(client):
                end, connected = time.monotonic() + _ARRIVE_S, True
        return False if connected else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self.listener.close()


def bound(address: Address, port: int) -> socket.socket:
    """A client's socket at this port of this host, 0 for any.  Raises OSError."""
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(sockopt.socket_address(address, sockopt.near(address), port))
    except OSError:
        made.close()
        raise
    return made


def _is_connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True
