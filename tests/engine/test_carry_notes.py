"""What the filter notes of a connection, and what is carried by it."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from tests.engine.carrying import dial, settled, wait_unread
from tests.observe.test_request_head import HEADS
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_facts import Pair
from segue.engine.carry_wish import Report, Wish
from segue.linux.raw_ip import RawIp
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Note, Refusal
from segue.observe.request_head import Seen, read
from segue.wire import ipv4, tcp

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LONG = 60.0


@dataclass
class Scene:
    """One carrier and one listener, by which every connection comes."""

    carrier: Carrier
    listener: socket.socket
    stack: ExitStack

    def connect(self) -> Ends:
        """A client and what is accepted of it."""
        client = self.stack.enter_context(dial("127.0.0.1"))
        return Ends(self, client, self.stack.enter_context(self.listener.accept()[0]))


@dataclass
class Ends:
    """Both ends of a connection."""

    scene: Scene
    client: socket.socket
    old: socket.socket

    def note(self) -> Note | None:
        """What was noted of it."""
        look = self.scene.carrier._programs.look(Pair.of(self.old))
        assert look is not None
        return look.note

    def seen(self) -> Seen:
        """Of its last request."""
        note = self.note()
        assert note is not None
        return note.seen

    def ask(self, *pieces: bytes) -> None:
        """A request in pieces, read as they come."""
        for piece in pieces:
            self.client.sendall(piece)
            self.read(len(piece))

    def read(self, count: int) -> None:
        """So many bytes, by the server."""
        self.old.settimeout(PATIENCE)
        while count:
            count -= len(self.old.recv(count))

    def answer(self, data: bytes = ANSWER) -> None:
        """All of it arrives, and is acknowledged."""
        self.old.sendall(data)
        left = len(data)
        while left:
            left -= len(self.client.recv(left))
        settled(self.old)

    def carry(self, grace: float | None = 0.0, *, unread: bool = False) -> Report:
        """To the same listener again."""
        wish = Wish(self.old, grace=grace, unread=unread)
        (report,) = self.scene.carrier.batch([wish], [self.scene.listener], [], _LONG)
        if report.carried:
            self.old = self.scene.stack.enter_context(self.scene.listener.accept()[0])
        return report


@contextmanager
def watched(*, watch: bool = True) -> Iterator[Scene]:
    """Whose listener is watched, or is not."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        listener = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=99))
        if watch:
            assert carrier.watch(listener) is None
        yield Scene(carrier, listener, stack)


def test_the_filter_reads_what_the_rule_reads() -> None:
    """Every head by itself, and many that are put together at random."""
    pieces = [
        *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b" HTTP/1.1\r\n", b"GET ", b"x" * 40, b"y" * 300),
        *(b"upgrade:", b"Accept: text/event-stream", b"Host: here\r\n", b"expect: 1"),
        *(b"\r\nContent-Length: 12\r\n", b"content-length:", b"\r\ntransfer-encoding: x"),
    ]
    chance = random.Random(7)
    made = [b"".join(chance.choices(pieces, k=chance.randrange(1, 12))) for _ in range(300)]
    with watched() as scene:
        for head in (*HEADS, *made):
            if head:
                ends = scene.connect()
                ends.ask(head)
                # What a header seems to be in the rest of an earlier head only adds to it.
                note, here = ends.note(), read(head)
                assert note is not None
                assert note.seen & here.seen == here.seen, head
                if here.size:
                    assert (note.end - note.start) % (1 << 32) == here.size, head
                if head in HEADS:
                    assert note.seen == here.seen, head
                ends.client.close()


def test_a_request_begins_after_an_answer() -> None:
    """Its pieces are one request; its notes go with the next one, except that it was early."""
    with watched() as scene:
        ends = scene.connect()
        assert ends.note() is None
        ends.ask(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
        first = ends.note()
        ends.ask(b"body")
        second = ends.note()
        assert first is not None
        assert second is not None
        assert second.time_ns > first.time_ns
        assert (second.written, second.start, second.seen) == (
            first.written,
            first.start,
            Seen.LINE | Seen.EXPECT,
        )
        ends.answer()
        ends.ask(REQUEST)
        assert ends.seen() == Seen.LINE


@pytest.mark.parametrize("how", ["in one piece", "behind it", "before the whole answer"])
def test_a_client_that_does_not_wait(how: str) -> None:
    """It is left alone from then on."""
    with watched() as scene:
        ends = scene.connect()
        if how == "in one piece":
            ends.ask(REQUEST + REQUEST)
        elif how == "behind it":
            ends.ask(REQUEST, REQUEST)
        else:
            ends.ask(REQUEST)
            # Two segments, of which the client's system has one when it sends.
            ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            ends.old.sendall(b"x" * 1_000_000)
            ends.ask(REQUEST)
        assert ends.seen() & Seen.EARLY
        if how != "before the whole answer":
            ends.answer()
            assert ends.carry().refused is Refusal.EARLY
            assert ends.carry(None).refused is Refusal.EARLY
            ends.ask(REQUEST)
            ends.answer()
            assert ends.carry().refused is Refusal.EARLY


def test_what_came_before_is_no_news() -> None:
    """A segment that comes twice, once its answer is written, begins no request."""
    with watched() as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        before = ends.note()
        assert before is not None
        ends.answer()
        pair = Pair.of(ends.old)
        written = (before.written + len(ANSWER)) % (1 << 32)
        flags = tcp.ACK | tcp.PSH
        segment = tcp.emit(
            pair.addresses, pair.ports, before.start, written, flags, 500, payload=REQUEST
        )
        arrived = segments(ends.old)
        with RawIp() as raw:
            raw.send(ipv4.emit(pair.addresses, socket.IPPROTO_TCP, segment), pair.here)
        assert segments(ends.old) == arrived + 1
        assert ends.note() == before
        assert ends.carry().carried


def segments(connection: socket.socket) -> int:
    """How many came in (tcpi_segs_in)."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    return int.from_bytes(data[140:], "little")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (REQUEST, None),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", Refusal.UPGRADED),
        (b"GET / HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n", Refusal.STREAM),
        (b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", Refusal.EXPECTED),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal.HTTP2),
        (b"hello\r\n", Refusal.NO_REQUEST_LINE),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 2000 + b"\r\n\r\n", Refusal.LONG_HEAD),
    ],
)
def test_what_the_rule_for_http_carries(request_: bytes, why: Refusal | None) -> None:
    """An answered request; and what may not be, is left alone until the next one."""
    with watched() as scene:
        ends = scene.connect()
        ends.ask(request_)
        assert ends.carry().refused is Refusal.OWED
        ends.answer()
        assert ends.carry(grace=3600.0).refused in {why, Refusal.RECENT}
        assert ends.carry().refused is why
        ends.ask(REQUEST)
        ends.answer()
        ends.carry()
        assert ends.carry().carried != (why is Refusal.HTTP2)


def test_a_part_of_a_request_keeps_it_where_it_is() -> None:
    """Behind a whole one, or before its end has come, whatever the owner has answered."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
    with watched() as scene:
        ends = scene.connect()
        ends.ask(head + b"body" + head[:20])
        ends.answer()
        for grace in (0.0, None):
            assert ends.carry(grace).refused is Refusal.NOT_ONE
        early = scene.connect()
        early.ask(head + b"bo")
        early.answer()
        assert early.carry().refused is Refusal.NOT_ONE
        whole = scene.connect()
        whole.ask(head, b"bo", b"dy")
        whole.answer()
        assert whole.carry().carried


def test_a_connection_that_was_carried_can_be_carried_again() -> None:
    """Nothing has been asked of its new owner; and nothing of one that was just accepted."""
    with watched() as scene:
        ends = scene.connect()
        assert ends.carry().carried
        assert ends.carry().carried
        ends.ask(REQUEST)
        ends.answer()
        for _ in range(3):
            assert ends.carry().carried
        ends.ask(REQUEST)
        assert ends.carry().refused is Refusal.OWED


def test_a_connection_that_came_before_the_watch() -> None:
    """It is left alone, and watched from then on: its next request is noted."""
    with watched(watch=False) as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        ends.answer()
        assert ends.carry().refused is Refusal.NO_NOTES
        ends.ask(REQUEST)
        ends.answer()
        assert ends.carry().carried


def test_a_predecessors_notes_are_not_ours() -> None:
    """Its filter is replaced, by its name."""
    with watched() as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        ends.answer()
        scene.carrier.close()
        with Carrier() as scene.carrier:
            assert ends.carry().refused is Refusal.NO_NOTES
            ends.ask(REQUEST)
            ends.answer()
            assert ends.carry().carried


def test_a_request_that_nobody_has_read_goes_along() -> None:
    """In as many pieces as it came; and it is noted for the next one who carries."""
    with watched() as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        ends.answer()
        whole = b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000
        for at in range(0, len(whole), 3000):
            ends.client.sendall(whole[at : at + 3000])
        wait_unread(ends.old, len(whole))
        assert ends.carry().refused is Refusal.WAITING
        report = ends.carry(unread=True)
        assert (report.carried, report.unread) == (True, len(whole))
        assert ends.seen() == Seen.LINE
        ends.read(len(whole))
        assert ends.carry().refused is Refusal.OWED
        ends.answer()
        assert ends.carry().carried


def test_what_was_begun_is_not_carried_with_what_is_unread() -> None:
    """The rest of it is of no use to another."""
    with watched() as scene:
        ends = scene.connect()
        ends.client.sendall(REQUEST)
        ends.read(5)
        assert ends.carry(unread=True).refused is Refusal.OWED
        assert ends.carry(None, unread=True).refused is Refusal.OWED
