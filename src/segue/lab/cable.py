"""A link at work: a thread that carries packets between two devices.

The thread alone touches the ``Link``; everybody else asks it.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Protocol, TypeVar

from segue.errors import UsageError
from segue.lab.link import Conditions, Direction, Hold, Link, PacketCounts, Predicate
from segue.linux.closing import Closing

T = TypeVar("T")

# Read in a row from one device before what is due is written: about a millisecond's worth, the
# step in which epoll can wait anyway.
BATCH = 128
WAIT_S = 10.0  # how long a question may take, or a condition may be waited for


class Device(Protocol):
    """An end of the wire, such as ``segue.linux.tun.Tun``."""

    def read(self) -> bytes | None:
        """The next packet; None when none waits."""

    def write(self, packet: bytes) -> None:
        """Let a packet arrive."""

    def fileno(self) -> int:
        """Readable when a packet waits."""


class Cable(Closing):
    """Carries packets from its making to ``close``; ``forth`` is from the first device.

    No packet arrives early; on an idle machine it is late by a millisecond at most.  Every method
    raises what the thread ended by, if it ended: a device's KernelError, or whatever a predicate
    of a hold raised.
    """

    def __init__(self, link: Link, first: Device, second: Device) -> None:
        self._link = link
        self._questions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiters: list[tuple[Callable[[Link], bool], Future[None]]] = []
        self._error: BaseException | None = None
        self._ended = False
        self._lock = threading.Lock()  # between the last question and the end
        self._lanes = [(first, link.forth, second), (second, link.back, first)]
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        for descriptor in (self._wake, first.fileno(), second.fileno()):
            self._epoll.register(descriptor, select.EPOLLIN)
        self._thread = threading.Thread(target=self._work, name="segue-cable", daemon=True)
        self._thread.start()

    def hold(self, matches: Predicate, *, back: bool = False) -> CableHold:
        """From its return on, packets forth (or back) that match are kept until released."""
        return CableHold(
            self, self.ask(lambda link, _: _pipe(link, back=back).hold(matches)), back=back
        )

    def change(self, forth: Conditions, back: Conditions | None = None) -> None:
        """Other conditions for what is sent from its return on, both ways unless told."""

        def apply(link: Link, _: float) -> None:
            link.forth.conditions, link.back.conditions = forth, back or forth

        self.ask(apply)

    def counts(self) -> tuple[PacketCounts, PacketCounts]:
        """What became of the packets forth and back."""
        return self.ask(lambda link, _: (link.forth.counts(), link.back.counts()))

    def ask(self, question: Callable[[Link, float], T], seconds: float = WAIT_S) -> T:
        """What the question answers, asked in the thread with the link and the time.

        Raises TimeoutError when the thread does not come to it, and then it never will.
        """
        future: Future[T] = Future()

        def answer() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(question(self._link, time.monotonic()))
            except Exception as error:  # noqa: BLE001 - it is the asker's
                future.set_exception(error)

        self._put(answer)
        return self._answer(future, seconds)

    def wait(self, true: Callable[[Link], bool], seconds: float = WAIT_S) -> None:
        """Until it is true of the link.  Raises TimeoutError after so many seconds."""
        future: Future[None] = Future()
        self._put(lambda: self._waiters.append((true, future)))
        self._answer(future, seconds)

    def close(self) -> None:
        """Stop carrying, and let go of the devices, which stay open; twice is no error.

        Raises what the thread ended by, once.
        """
        if self._wake < 0:
            return
        self._ended = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wake)
        self._wake = -1
        if self._error is not None:
            raise self._error

    def _put(self, do: Callable[[], None]) -> None:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise UsageError("this cable was closed")
            self._questions.put(do)
            os.eventfd_write(self._wake, 1)

    @staticmethod
    def _answer(future: Future[T], seconds: float) -> T:
        try:
            return future.result(seconds)
        finally:
            future.cancel()

    def _work(self) -> None:
        try:
            while not self._ended:
                self._round()
        except BaseException as error:  # noqa: BLE001 - raised to every caller
            self._error = error
        finally:
            self._end()

    def _round(self) -> None:
        """Sleep until there is something to do, and do it once."""
        due = self._link.deadline()
        # epoll rounds up to milliseconds, so what it waits for is due when it returns.
        patience = -1.0 if due is None else max(0.0, due - time.monotonic())
        ready = {descriptor for descriptor, _ in self._epoll.poll(patience)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
            with suppress(queue.Empty):
                while True:
                    self._questions.get_nowait()()
        for source, pipe, target in self._lanes:
            if source.fileno() in ready:
                now = time.monotonic()
                for _ in range(BATCH):
                    packet = source.read()
                    if packet is None:
                        break
                    pipe.send(now, packet)
            for packet in pipe.take(time.monotonic()):
                target.write(packet)
        if self._waiters:
            self._waiters = [one for one in self._waiters if not self._met(*one)]

    def _met(self, true: Callable[[Link], bool], future: Future[None]) -> bool:
        """True when nothing waits for this any more."""
        # The caller may give up waiting at any moment; then nothing needs the result.
        with suppress(InvalidStateError):
            try:
                if true(self._link):
                    future.set_result(None)
            except Exception as error:  # noqa: BLE001 - it is the asker's
                future.set_exception(error)
        return future.done()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        with suppress(queue.Empty):
            while True:
                self._questions.get_nowait()()
        for _, future in self._waiters:
            with suppress(InvalidStateError):
                future.set_exception(self._error or UsageError("this cable was closed"))


class CableHold:
    """One hold of a cable, as seen from outside of its thread."""

    def __init__(self, cable: Cable, hold: Hold, *, back: bool) -> None:
        self._cable, self._hold, self._back = cable, hold, back

    def packets(self) -> list[bytes]:
        """Those that are held now, in the order in which they were sent."""
        return self._cable.ask(lambda *_: self._hold.packets)

    def wait(self, number: int, seconds: float = WAIT_S) -> None:
        """Until at least so many are held.  Raises TimeoutError."""
        self._cable.wait(lambda _: len(self._hold.waiting) >= number, seconds)

    def release(self) -> None:
        """Let them arrive, and hold nothing more; twice is no error."""
        self._cable.ask(lambda link, now: _pipe(link, back=self._back).release(self._hold, now))

    def discard(self) -> None:
        """Let them never arrive, and hold nothing more; twice is no error."""
        self._cable.ask(lambda link, _: _pipe(link, back=self._back).discard(self._hold))


def _pipe(link: Link, *, back: bool) -> Direction:
    return link.back if back else link.forth
