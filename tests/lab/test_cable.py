"""A cable between two devices made of sockets, so that no privilege is needed."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests import leaks
from tests.waiting import PATIENCE

from segue.errors import KernelError, UsageError
from segue.lab.cable import Cable
from segue.lab.link import Conditions
from segue.lab.scenario import link


class Wire:
    """A device whose other end the test has: one message is one packet."""

    def __init__(self) -> None:
        self.far, self.near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        self.far.settimeout(PATIENCE)

    def read(self) -> bytes | None:
        with suppress(BlockingIOError):
            return self.near.recv(65536)
        return None

    def write(self, packet: bytes) -> None:
        if packet == b"refused":
            raise KernelError("write", 5, "writing to a wire")
        # The socket holds few packets, and the test may be slow to read them.
        assert select.select([], [self.near], [], PATIENCE)[1]
        self.near.send(packet)

    def fileno(self) -> int:
        return self.near.fileno()

    def close(self) -> None:
        self.far.close()
        self.near.close()


class Ends:
    """Both devices and the cable."""

    def __init__(self) -> None:
        self.wires = (Wire(), Wire())
        self.first, self.second = (wire.far for wire in self.wires)
        self.cable = Cable(link(Conditions()), *self.wires)

    def gone(self) -> None:
        """Until the thread has ended by itself."""
        self.cable._thread.join(PATIENCE)
        assert not self.cable._thread.is_alive()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A cable that delays and loses nothing."""
    made = Ends()
    yield made
    with suppress(KernelError, ZeroDivisionError):
        made.cable.close()
    for wire in made.wires:
        wire.close()


def test_it_carries_both_ways_in_order(ends: Ends) -> None:
    """More packets than it reads in one go, and as many back."""
    numbers = [b"%d" % number for number in range(300)]
    for source, target in ((ends.first, ends.second), (ends.second, ends.first)):
        # From a thread, since the socket holds fewer than these.
        sender = threading.Thread(target=lambda out=source: [out.send(one) for one in numbers])
        sender.start()
        assert [target.recv(100) for _ in numbers] == numbers
        sender.join(PATIENCE)
    assert [one.arrived for one in ends.cable.counts()] == [300, 300]


def test_no_packet_is_early(ends: Ends) -> None:
    """With a delay it is under way first, and has arrived once the link says that it has."""
    ends.cable.change(Conditions(3600.0))
    ends.first.send(b"slow")
    ends.cable.wait(lambda link: link.forth.counts().under_way == 1)
    ends.cable.change(Conditions(0.001))
    ends.first.send(b"fast")
    assert ends.second.recv(100) == b"fast"
    forth, _ = ends.cable.counts()
    assert (forth.arrived, forth.under_way) == (1, 1)


def test_a_hold_is_seen_and_released(ends: Ends) -> None:
    """What matches waits, what does not passes it; released it arrives, and the hold is over."""
    held = ends.cable.hold(lambda packet: packet == b"held")
    for packet in (b"held", b"other"):
        ends.first.send(packet)
    assert ends.second.recv(100) == b"other"
    held.wait(1)
    assert held.packets() == [b"held"]
    held.release()
    held.release()
    ends.first.send(b"held")
    assert [ends.second.recv(100), ends.second.recv(100)] == [b"held", b"held"]


def test_a_hold_of_the_way_back_may_be_discarded(ends: Ends) -> None:
    """The way forth is not touched by it, and what was held never arrives."""
    held = ends.cable.hold(lambda _: True, back=True)
    ends.second.send(b"never")
    ends.first.send(b"forth")
    assert ends.second.recv(100) == b"forth"
    held.wait(1)
    held.discard()
    ends.second.send(b"back")
    assert ends.first.recv(100) == b"back"
    assert ends.cable.counts()[1].discarded == 1


def test_each_way_may_have_its_conditions(ends: Ends) -> None:
    """All is lost on the way forth and nothing on the way back."""
    ends.cable.change(Conditions(loss=1.0), Conditions())
    ends.first.send(b"lost")
    ends.second.send(b"kept")
    assert ends.first.recv(100) == b"kept"
    ends.cable.wait(lambda link: link.forth.counts().lost == 1)


def test_a_question_that_fails_is_the_askers(ends: Ends) -> None:
    """Asked or waited for; the cable goes on."""
    with pytest.raises(ZeroDivisionError):
        ends.cable.ask(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        ends.cable.wait(lambda _: bool(1 // 0))
    ends.first.send(b"on")
    assert ends.second.recv(100) == b"on"


def test_a_wait_ends(ends: Ends) -> None:
    """When it does not become true; whoever waits after that is not disturbed."""
    with pytest.raises(TimeoutError):
        ends.cable.wait(lambda _: False, 0.01)
    ends.cable.wait(lambda _: True)


def test_who_gave_up_is_told_nothing(ends: Ends) -> None:
    """A question of one who has gone is not asked; a condition that comes true late is nobody's."""
    go_on, asked = threading.Event(), []
    with pytest.raises(TimeoutError):
        ends.cable.wait(lambda _: go_on.wait(PATIENCE), 0.01)
    with pytest.raises(TimeoutError):
        ends.cable.ask(lambda *_: asked.append(1), 0.01)
    go_on.set()
    assert ends.cable.counts()[0].sent == 0
    assert asked == []


def test_a_predicate_that_fails_ends_the_cable(ends: Ends) -> None:
    """Everybody who asks is told, and so is who closes it, once."""
    ends.cable.hold(lambda _: bool(1 // 0))
    ends.first.send(b"x")
    ends.gone()
    for ask in (ends.cable.counts, lambda: ends.cable.wait(lambda _: True), ends.cable.close):
        with pytest.raises(ZeroDivisionError):
            ask()
    ends.cable.close()


def test_a_device_that_fails_ends_the_cable(ends: Ends) -> None:
    """Who is waiting then is told what it was."""
    ends.first.send(b"refused")
    with pytest.raises(KernelError, match="writing to a wire"):
        ends.cable.wait(lambda _: False)


def test_a_closed_cable_carries_nothing() -> None:
    """It has no thread and no descriptor of its own; asked, it says so; twice is no error."""
    wires = (Wire(), Wire())
    threads, descriptors = set(threading.enumerate()), leaks.descriptors()
    with Cable(link(Conditions()), *wires) as cable:
        assert cable.counts()[0].sent == 0
    cable.close()
    assert set(threading.enumerate()) <= threads
    assert leaks.descriptors() == descriptors
    with pytest.raises(UsageError, match="closed"):
        cable.counts()
    for wire in wires:
        wire.close()
