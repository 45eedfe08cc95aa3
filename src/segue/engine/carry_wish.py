"""What is asked of a carry, and what became of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from segue.errors import KernelError
from segue.observe.carrying import Refusal

CARRIED = "carried"


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """That a connection goes to another listener.

    ``connection`` is a duplicate and stays the caller's, who may close it once there is a report.
    One that is taken from other processes is closed before they go on.
    ``refusal`` is asked while the owners are stopped, so it must be quick: what it returns leaves
    the connection alone.  With ``grace`` the rule for HTTP/1.x decides too: a connection of a
    watched listener whose last answer is whole, or may be whole after so many quiet seconds.
    Without it, the caller knows that the answer is whole.  ``unread`` says that a request may go
    along that its owner has not begun to read, as behind a worker that stalls.  ``turning`` says
    that what is not between two requests may be so by the time its owner has stopped, or while it
    stands still.
    """

    connection: socket.socket
    refusal: Callable[[], Refusal | None] | None = None
    grace: float | None = None
    unread: bool = False
    turning: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it: carried; else pending; else refused, and as it was; else lost.

    A connection that is pending belongs to nobody: ``Carrier.settle`` says later what became of
    it.  The client of one that is lost is reset.  ``errno`` is what the kernel said last, 0 when no
    listener was there or had room.
    """

    wish: Wish
    carried: bool = False
    pending: bool = False
    refused: Refusal | None = None
    unread: int = 0  # bytes that went along
    errno: int = 0
    error: KernelError | None = None  # of Refusal.KERNEL

    @property
    def later(self) -> bool:
        """There was no time for it: it is to be asked for again."""
        return self.refused in {Refusal.NO_TIME, Refusal.LATE}

    def __str__(self) -> str:
        if self.carried:
            return carried(self.unread)
        if self.pending:
            return "pending: no listener has taken it yet"
        if self.refused is not None:
            more = f": {self.error}" if self.error is not None else ""
            return left_alone(self.refused) + more
        return "lost: no listener took it" + (f" (error {self.errno})" if self.errno else "")


def carried(unread: int) -> str:
    """In words, with so many bytes of a request."""
    return f"{CARRIED}, with {unread} unread bytes" if unread else CARRIED


def left_alone(why: Refusal) -> str:
    """In words."""
    return f"left alone: {why.value}"
