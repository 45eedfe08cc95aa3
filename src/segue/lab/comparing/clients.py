"""The clients of a comparison: most ask once, and some keep their connection and think.

As the servers they know nothing of where they run: ``Network`` dials for them.  Every connection
that is dialled has one ``End``, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from segue.lab.comparing.ledger import End, How
from segue.lab.comparing.settings import FIRST_PORT, PATIENCE_S, THINK_S, Settings
from segue.lab.link import Chance


class Network(Protocol):
    """Linux or the model, on the clients' side; a connection is named by its port."""

    def now(self) -> float:
        """Seconds since any instant."""

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call it in so many seconds."""

    def dial(self, port: int) -> None:
        """Begin to connect from this port."""

    def ask(self, port: int) -> None:
        """Send a request."""

    def hang_up(self, port: int) -> None:
        """Close it.  Nothing is told of it any more."""


@dataclass(slots=True)
class _Call:
    """A connection as it stands."""

    port: int
    begun: float
    kept: bool
    again: bool
    connected: bool = False
    first: float | None = None
    owed: bool = True
    asked: int = 0


class Clients:
    """All of them, from ``begin`` on, until ``over`` is called back."""

    def __init__(
        self,
        settings: Settings,
        network: Network,
        chances: tuple[Chance, Chance],
        over: Callable[[], None],
    ) -> None:
        """One chance says when clients come, the other how long they think: who thinks how often
        depends on the way, and who comes does not.
        """
        come, self._chance = chances
        self._settings, self._network, self._over = settings, network, over
        self._port = FIRST_PORT - 1
        self._calls: dict[int, _Call] = {}
        self._arrivals = settings.arrivals(come)
        self._ending = False
        self._begun = 0.0
        self.ends: list[End] = []

    def begin(self) -> None:
        """The time of the comparison begins now."""
        self._begun = self._network.now()
        for number in range(self._settings.kept):
            self._network.later(number / self._settings.rate, self._dial_kept)
        self._await_next()
        self._network.later(self._settings.length_s, self._end)

    # What the network tells.

    def connected(self, port: int) -> None:
        """The handshake is over for this side."""
        call = self._calls.get(port)
        if call is not None:
            call.connected = True
            self._network.ask(port)

    def heard(self, port: int) -> None:
        """A whole answer has come."""
        call = self._calls.get(port)
        if call is None:
            return
        call.owed = False
        if call.first is None:
            call.first = self._network.now()
        if call.kept and not self._ending:
            pause = 2 * THINK_S * self._chance()
            asked = call.asked = call.asked + 1
            self._network.later(pause, lambda: self._ask_again(call, asked))
        else:
            self._finish(call, How.ANSWERED)

    def broken(self, port: int) -> None:
        """The server has ended it, or reset it."""
        call = self._calls.get(port)
        if call is None:
            return
        owed = How.RESET if call.connected else How.REFUSED
        self._finish(call, owed if call.owed else How.LET_GO)

    # Inside.

    def _await_next(self) -> None:
        at = next(self._arrivals, None)
        if at is not None:
            pause = self._begun + at - self._network.now()
            self._network.later(max(0.0, pause), self._come)

    def _come(self) -> None:
        self._dial(kept=False)
        self._await_next()

    def _dial_kept(self) -> None:
        self._dial(kept=True)

    def _dial(self, *, kept: bool, again: bool = False) -> None:
        self._port += 1
        call = _Call(self._port, self._network.now(), kept, again)
        self._calls[call.port] = call
        self._network.dial(call.port)
        self._network.later(PATIENCE_S, lambda: self._lose_patience(call, 0))

    def _ask_again(self, call: _Call, asked: int) -> None:
        if self._calls.get(call.port) is call:
            call.owed = True
            self._network.ask(call.port)
            self._network.later(PATIENCE_S, lambda: self._lose_patience(call, asked))

    def _lose_patience(self, call: _Call, asked: int) -> None:
        if self._calls.get(call.port) is call and call.owed and call.asked == asked:
            self._finish(call, How.GAVE_UP)

    def _finish(self, call: _Call, how: How) -> None:
        del self._calls[call.port]
        self._network.hang_up(call.port)
        first = None if call.first is None else call.first - self._begun
        begun = call.begun - self._begun
        self.ends.append(End(call.port, begun, first, how, call.kept, call.again))
        if call.kept and not self._ending:
            self._dial(kept=True, again=True)
        self._look()

    def _end(self) -> None:
        """Nobody comes any more; who keeps a connection hangs up when nothing is owed."""
        self._ending = True
        for call in [one for one in self._calls.values() if not one.owed]:
            self._finish(call, How.ANSWERED)
        self._look()

    def _look(self) -> None:
        if self._ending and not self._calls:
            self._over()
