"""Whether a worker is ready, tested by a connection to its listener.

A *knock* is a connection whose source port is pinned to one listener.  So it reaches this worker
and no other, and clients go elsewhere.  It waits in that listener's accept queue until the worker
accepts it.  Then the kernel shows the connection with an inode.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Literal

from segue.errors import SegueError
from segue.linux.sockopt import near, socket_address
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.question import Question
from segue.supervisor.workers.asking import Asking

NEVER = "it has not accepted a connection"
NOWHERE = "it does not listen at the address of --bind"
# Seconds until a knock is repeated that was refused or got a bad answer.
AGAIN = 0.1
_PATIENCE = 1.0  # for a connection over loopback; if it takes longer, its SYN was dropped
# What a listener with TCP_DEFER_ACCEPT waits for.  A server of HTTP skips an empty line before a
# request (RFC 9112, 2.2); to others it is a client that hung up before its first message was whole.
_HELLO = b"\r\n"


class Knock:
    """One pinned connection to one listener.  The socket is this object's to close."""

    def __init__(self, front: Front, slot: int, question: Question | None, now: float) -> None:
        self.front, self.question, self.since = front, question, now
        self.accepted = False
        self.reached = False  # a process has accepted it, as far as is known
        self.failed = ""
        self._asking: Asking | None = None
        self._owes_hello = question is None and front.waits_for_data(slot)
        address = front.bind.address
        self._family, self._host = address.family, near(address)
        self.socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.setblocking(False)
            self.socket.bind(socket_address(address, self._host, 0))
            self.port: int = self.socket.getsockname()[1]
            front.steering.pin(self.port, slot)
        except BaseException:
            self.socket.close()
            raise
        self._pinned = True
        where = socket_address(address, self._host, address.port)
        self._there = self._host, address.port
        self._interface = int(where[3]) if address.zone else 0
        self.socket.connect_ex(where)
        self._hello()

    def _hello(self) -> None:
        """Say something, as soon as there is a connection, to a listener that waits for it."""
        if self._owes_hello:
            with contextlib.suppress(OSError):  # not connected yet; ``step`` sees any other
                self._owes_hello = self.socket.send(_HELLO) == 0

    def step(self, now: float) -> bool:
        """Look once.  True if the worker has accepted (and, if asked, has given a good answer).

        ``failed`` says why this knock cannot succeed any more.
        """
        if self._pinned and not self._connected(now):
            return False
        if self._pinned:
            # The SYN has reached its listener, so later clients with this source port are not
            # pinned.
            self.front.steering.unpin(self.port)
            self._pinned = False
        if self.question is not None:
            return self._ask(self.question)
        self._hello()
        if not self.accepted:
            self.accepted = self.taken() or self._hung_up()
        return self.accepted

    def _connected(self, now: float) -> bool:
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.failed = f"its listener refused a connection (errno {error})"
            return False
        try:
            self.socket.getpeername()
        except OSError:
            if now > self.since + _PATIENCE:
                self.failed = "its listener did not answer a connection"
            return False
        return True

    def _hung_up(self) -> bool:
        """True if it was accepted and closed between two looks: a FIN or an answer needs that."""
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return False
        except OSError as error:
            self.failed = f"a connection to it was reset ({error.strerror})"
            return False
        return True

    def _ask(self, question: Question) -> bool:
        if self._asking is None:
            self._asking = Asking(question, str(self.front.bind.address), self.socket)
        asking = self._asking
        asking.step()
        self.failed = asking.failed
        if asking.answered is None:
            self.reached = self.reached or self.taken()
        if asking.answered is not None:
            self.accepted = question.accepts(asking.answered)
            if not self.accepted:
                self.failed = f"{question} was answered {asking.answered}"
        return self.accepted

    def taken(self) -> bool:
        """Ask the kernel whether a process has accepted this connection."""
        seen = self.front.observer.diag.one(
            self._family, self._there, (self._host, self.port), interface=self._interface
        )
        return seen is not None and seen.inode != 0

    def waits(self) -> bool:
        """It is in the queue of a worker that has ended.  What that one had accepted is closed."""
        with contextlib.suppress(SegueError, OSError):
            self.socket.getpeername()  # it has got through
            return not (self._hung_up() or self.failed or self.taken())
        return False

    def close(self) -> None:
        """Hang up and unpin."""
        if self._pinned:
            # A pin that stays is forgotten when its listener leaves.
            with contextlib.suppress(SegueError):
                self.front.steering.unpin(self.port)
            self._pinned = False
        (self._asking or self.socket).close()


@dataclass(slots=True)
class Readiness:
    """The proofs of readiness that one worker still lacks.  Notifications and ``step`` add them."""

    mode: Literal["auto", "notify", "accept"]
    question: Question | None = None
    said: bool = False  # READY=1 came
    speaks: bool = False  # it has sent a notification of any kind
    why: str = ""  # the proof that was missing last, in words
    _knocks: dict[int, Knock] = field(default_factory=dict)
    _proven: set[int] = field(default_factory=set)
    _again: float = 0.0

    @property
    def silent(self) -> bool:
        """Nothing was heard of the worker, so only others can tell ``why``."""
        return self.why == NOWHERE or self.why.startswith(NEVER)

    def notified(self, *, ready: bool) -> None:
        """Take a notification of this worker."""
        self.speaks = True
        self.said = self.said or ready

    def step(self, fronts: list[Front], holds: tuple[HeldListener, ...], now: float) -> bool:
        """Look once.  True if no proof is missing.

        With ``auto``, every listener must have accepted a knock.  A worker that sends notifications
        must also have sent READY=1: gunicorn sends it before its workers run, others only after.
        """
        if self.mode == "notify":
            self.why = "" if self.said else "it has not sent READY=1"
            return self.said
        for held in holds:
            if held.cookie not in self._proven and now >= self._again:
                self._look(fronts[held.bind], held, now)
        missing = [held for held in holds if held.cookie not in self._proven]
        if missing or not holds:
            if not self.why or self.silent:
                self.why = _never(fronts, missing) if holds else NOWHERE
            return False
        if self.mode == "auto" and self.speaks and not self.said:
            self.why = "it uses sd_notify but has not sent READY=1"
            return False
        return True

    def _look(self, front: Front, held: HeldListener, now: float) -> None:
        knock = self._knocks.get(held.cookie)
        if knock is None:
            knock = self._knocks[held.cookie] = Knock(front, held.slot, self.question, now)
        if knock.step(now):
            self._proven.add(held.cookie)
        elif knock.failed:
            self.why = knock.failed
            self._again = now + AGAIN
        else:
            if knock.reached and (not self.why or self.silent):
                self.why = f"{knock.question} has not been answered"
            return
        knock.close()
        del self._knocks[held.cookie]

    def left(self) -> int:
        """How many knocks wait where nothing migrates, now that the worker has ended."""
        knocks = self._knocks.values()
        return sum(one.waits() for one in knocks if not one.front.steering.migrates)

    def close(self) -> None:
        """Close the knocks that are still open."""
        for knock in self._knocks.values():
            knock.close()
        self._knocks.clear()


def _never(fronts: list[Front], missing: list[HeldListener]) -> str:
    """Where it has not accepted, if it has at other addresses."""
    where = [str(fronts[bind].bind.address) for bind in sorted({held.bind for held in missing})]
    return NEVER if len(where) == len(fronts) else f"{NEVER} at {' and '.join(where)}"
