"""One loop for ``segue run`` and ``segue attach``: events, signals, time, and looks for stalls.

It knows no workers and no groups.  It runs a *subject*, which says when it needs to be called, what
follows from an event, and when the loop is over.  An error is logged once and the work is tried
again: an error of the kernel must not end a supervisor that serves.
"""

from __future__ import annotations

import math
import select
import selectors
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import Protocol

from segue.errors import SegueError


class Rank(IntEnum):
    """The order in which the events of one round are handled.

    Workers and other processes can cause many events.  These must not delay requests, signals and
    the ends of processes.
    """

    SIGNAL = 0
    ENDED = 1
    ASKED = 2  # clients of the control socket, and everything that has no other rank
    NOTIFIED = 3  # any process that can reach the socket


class HasFileno(Protocol):
    """Anything that a selector accepts."""

    def fileno(self) -> int:
        """The descriptor."""


class Looks(Protocol):
    """Frequent and cheap looks, which are made inside the wait (``rescue.Rescue``)."""

    doing: str  # for a sentence
    found: bool

    @property
    def due(self) -> float:
        """When to look next; math.inf means never."""

    def prepare(self) -> None:
        """Register what to look at.  Called once before each wait."""

    def look(self) -> None:
        """Look once.  ``found`` then says whether the subject must react."""


class Subject(Protocol):
    """The object that a loop runs."""

    def over(self) -> bool:
        """True if the loop must end."""

    @property
    def looks(self) -> Sequence[Looks]:
        """The looks to make while waiting."""

    def settle(self) -> None:
        """Do what follows from the events so far.  Called before each wait."""

    def deadline(self) -> float:
        """The latest time for the next ``tick``, on the loop's clock."""

    def tick(self) -> None:
        """Look at things that no descriptor reports.  Called after each wait."""


def handled(
    handlers: Mapping[int, Callable[[int], object]], ignored: Collection[int]
) -> Mapping[int, Callable[[int], object]]:
    """Those that are to be installed where these signals were ignored at the start.

    nohup(1) ignores HUP: whoever started us wants that.  A shell without job control ignores INT
    and QUIT of what it runs in the background, so that ^C ends the script alone.  A supervisor is
    ended by them all the same, as other servers are: INT, INT is how a stuck one is ended, and
    after a script that has died nobody else would end it.  TERM is how a service is stopped, and
    without CHLD no worker's end would be heard of.
    """
    always = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD}
    return {one: it for one, it in handlers.items() if one in always or one not in ignored}


class Loop:
    """The selector, the wake-up descriptor of signals, and the clock.  ``close`` releases them."""

    def __init__(
        self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.now = say, now
        self._selector = selectors.EpollSelector()
        self._ready = select.poll()
        self._ready.register(self._selector.fileno(), select.POLLIN)
        self._ranks: dict[int, Rank] = {}
        self._troubles: set[str] = set()  # logged, and not over yet
        self._signals: Mapping[int, Callable[[int], object]] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        for side in (self._wake_in, self._wake_out):
            side.setblocking(False)

    def watch(
        self, file: HasFileno | int, handler: Callable[[], object], rank: Rank = Rank.ASKED
    ) -> None:
        """Call the handler whenever the file can be read, after the handlers of lower ranks."""
        key = self._selector.register(file, selectors.EVENT_READ, handler)
        self._ranks[key.fd] = rank

    def unwatch(self, file: HasFileno | int) -> None:
        """Stop calling the handler of this file.  It need not be watched."""
        try:
            key = self._selector.unregister(file)
        except (KeyError, ValueError):
            return
        self._ranks.pop(key.fd, None)

    def on_signals(self, handlers: Mapping[int, Callable[[int], object]]) -> None:
        """Call these in the loop, with the number of the signal, when the signals arrive.

        A signal that was ignored at the start stays ignored, as ``handled`` says, and so it is
        said of HUP.
        """
        ignored = {one for one in handlers if signal.getsignal(one) is signal.SIG_IGN}
        self._signals = handled(handlers, ignored)
        if signal.SIGHUP in ignored:
            self.say("HUP was ignored when this was started (nohup does so): it changes nothing")
        for number in self._signals:
            signal.signal(number, lambda *_: None)  # the wake-up descriptor carries the number
        self.watch(self._wake_in, self._signalled, Rank.SIGNAL)
        self.hear_signals()

    def hear_signals(self) -> None:
        """Receive signals again, also those that arrived since ``hold_signals``."""
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(self._signals))

    def hold_signals(self) -> None:
        """Block signals until new code has its handlers: one in between would end the process."""
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(self._signals))

    def attempt(self, doing: str, work: Callable[[], object]) -> bool:
        """Do the work.  True if it succeeded.

        A SegueError or OSError is logged once, until the same work succeeds again.
        """
        try:
            work()
        except (SegueError, OSError) as error:
            if doing not in self._troubles:
                self._troubles.add(doing)
                self.say(f"{doing}: {error}")
            return False
        self._troubles.discard(doing)
        return True

    def run(self, subject: Subject) -> None:
        """Serve the subject until it is over."""
        while True:
            subject.settle()
            if subject.over():
                return
            events = self._wait(subject)
            for key in events:
                # An earlier event of this round may have closed the file of this one.
                if self._selector.get_map().get(key.fd) is key:
                    self.attempt("an event", key.data)
            if events and subject.over():
                return
            self.attempt("looking around", subject.tick)

    def _wait(self, subject: Subject) -> list[selectors.SelectorKey]:
        """The events of one round in their order; none if it is time for ``tick``."""
        end, looks = subject.deadline(), subject.looks
        for one in looks:
            self.attempt(one.doing, one.prepare)
        while True:
            now = self.now()
            made = [one for one in looks if now >= one.due]
            for one in made:
                self.attempt(one.doing, one.look)
            if any(one.found for one in made):
                return []
            due = min((one.due for one in looks), default=math.inf)
            # A selector's own wait takes longer than a look; poll(2) counts whole milliseconds.
            if self._ready.poll(_milliseconds(min(end, due) - now)) or now >= end:
                keys = [key for key, _ in self._selector.select(0)]
                return sorted(keys, key=lambda key: self._ranks[key.fd])

    def _signalled(self) -> None:
        for number in self._wake_in.recv(4096):
            handler = self._signals.get(number)
            if handler is None:
                continue
            try:
                handler(number)
            except (SegueError, OSError) as error:
                self.say(f"{signal.Signals(number).name} is not followed: {error}")

    def close(self) -> None:
        """Close the loop's own descriptors.  Watched files belong to their owners."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()


def _milliseconds(seconds: float) -> int | None:
    """The time for poll(2), rounded up, so that it does not return early; None means no limit."""
    return None if seconds == math.inf else max(0, math.ceil(1000 * seconds))
