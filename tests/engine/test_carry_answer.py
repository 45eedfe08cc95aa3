"""What is seen of answers as they are sent, and what is carried by it."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.engine.carrying import dial, other_host, settled, wait_unread
from tests.engine.test_carry_notes import REQUEST, Ends, Scene
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Wish
from segue.linux import cbpf, socket_filter
from segue.linux.sockopt import open_listener
from segue.observe.answer import Answer, Phase
from segue.observe.carrying import Refusal
from segue.observe.request_head import Seen
from segue.probe.http1 import ResponseReader

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 10\r\n\r\n"
CHUNKED = OK + b"Server: here\r\ntransfer-encoding:chunked\r\n\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@contextmanager
def followed(host: str = "127.0.0.1") -> Iterator[Scene]:
    """Whose answers are read."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier(answers=True))
        listener = stack.enter_context(open_listener(Address(host, 8080), backlog=99))
        assert carrier.watch(listener) is None
        yield Scene(carrier, listener, stack)


def answer_of(ends: Ends) -> Answer:
    """What was seen of it."""
    note = ends.note()
    assert note is not None
    return note.answer


def answered(ends: Ends, *pieces: bytes, request: bytes = REQUEST) -> Answer:
    """A request, and an answer in pieces, each of which arrives by itself."""
    ends.ask(request)
    for piece in pieces:
        ends.answer(piece)
    return answer_of(ends)


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", Phase.WHOLE),
        (LENGTH + b"0123456789", Phase.WHOLE),
        (LENGTH + b"012345678", Phase.LENGTH),
        (LENGTH + b"0123456789+", Phase.MORE),
        (LENGTH, Phase.LENGTH),
        (OK + b"CONTENT-LENGTH:3\r\n\r\nabc", Phase.WHOLE),
        (OK + b"Content-Length: 999999999999999\r\n\r\n", Phase.LENGTH),
        (CHUNKED, Phase.CHUNK),
        (CHUNKED + b"3", Phase.SIZE),
        (CHUNKED + b"3;name=value", Phase.EXTENSION),
        (CHUNKED + b"3\r\nabc", Phase.DATA),
        (CHUNKED + b"3\r\nabc\r\n", Phase.CHUNK),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", Phase.TRAILER),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r", Phase.LAST),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", Phase.WHOLE),
        (CHUNKED + b"0000\r\n\r\n", Phase.WHOLE),
        (CHUNKED + b"A \r\n0123456789\r\n0;end\r\nSum: 1\r\n\r\n", Phase.WHOLE),
        (CHUNKED + b"0\r\nSum: 1", Phase.FIELD),
        # The data ends as an answer does.
        (CHUNKED + b"5\r\n\r\n0\r\n\r\n", Phase.CHUNK),
        (CHUNKED + b"4\r\n10\r\n\r\n", Phase.CHUNK),
        (CHUNKED + b"0\r\n\r\nHTTP/1.1", Phase.MORE),
        (HINT, Phase.HEAD),
        (CONTINUE + HINT + LENGTH + b"0123456789", Phase.WHOLE),
        (b"HTTP/1.1 204 No Content\r\nServer: here\r\n\r\n", Phase.WHOLE),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", Phase.WHOLE),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", Phase.TUNNEL),
        (OK + b"Server: here\r\n\r\nhello", Phase.UNTIL_CLOSE),
        (LENGTH[:30], Phase.TORN),
        (LENGTH[:-1], Phase.TORN),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Phase.UNKNOWN),
        (b"HTTP/1.1\r\n\r\n", Phase.UNKNOWN),
        (b"HTTP/1.1 200 OK", Phase.TORN),
        (b"hello", Phase.UNKNOWN),
        (OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n1", Phase.UNKNOWN),
        (OK + b"Content-Length: 1, 1\r\n\r\n1", Phase.UNKNOWN),
        (OK + b"Content-Length: -1\r\n\r\n", Phase.UNKNOWN),
        (OK + b"Content-Length: 1234567890123456\r\n\r\n", Phase.UNKNOWN),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", Phase.UNKNOWN),
        (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n", Phase.UNKNOWN),
        (OK + b"Transfer-Encoding: CHUNKED\r\n\r\n", Phase.CHUNK),
        (OK + b"Transfer-Encoding-Of: chunked\r\nContent-Length: 0\r\n\r\n", Phase.WHOLE),
        (CHUNKED + b"\r\n", Phase.UNKNOWN),
        (CHUNKED + b"x\r\n", Phase.UNKNOWN),
        (CHUNKED + b"FFFFFFFFFFFFFFFF\r\n", Phase.UNKNOWN),
        (OK + b"Cookie: " + b"c" * 3900 + b"\r\nContent-Length: 0\r\n\r\n", Phase.WHOLE),
        (OK + b"Cookie: " + b"c" * 4100 + b"\r\nContent-Length: 0\r\n\r\n", Phase.UNKNOWN),
    ],
)  # fmt: skip
def test_how_far_an_answer_is(answer: bytes, phase: Phase) -> None:
    """By its head, and by where its body ends."""
    with followed() as scene:
        seen = answered(scene.connect(), answer)
        assert seen.phase is phase


def test_an_answer_without_a_body_by_its_request() -> None:
    """HEAD has the length of what GET would get."""
    with followed() as scene:
        ends = scene.connect()
        head = b"HEAD / HTTP/1.1\r\n\r\n"
        assert answered(ends, LENGTH, request=head).phase is Phase.WHOLE
        assert answered(ends, CHUNKED, request=head).phase is Phase.WHOLE
        assert answered(ends, LENGTH).phase is Phase.LENGTH


@pytest.mark.parametrize("said", [b"Connection: close", b"connection:Close"])
def test_an_answer_that_is_the_last(said: bytes) -> None:
    """Its owner is about to close, and so it is left alone."""
    with followed() as scene:
        ends = scene.connect()
        seen = answered(ends, OK + said + b"\r\nContent-Length: 0\r\n\r\n")
        assert seen.closes
        assert ends.carry().refused is Refusal.CLOSING


def test_answers_that_are_cut_anywhere() -> None:
    """Behind its head, an answer is whole when a reader of answers finds it whole."""
    chance = random.Random(11)
    with followed() as scene:
        for _ in range(60):
            ends = scene.connect()
            for _ in range(3):
                head, body = made(chance)
                method = chance.choice(("GET", "GET", "HEAD"))
                ends.ask(f"{method} / HTTP/1.1\r\nHost: here\r\n\r\n".encode())
                whole = head if method == "HEAD" else head + body
                reader = ResponseReader(method)
                for piece in cut(chance, len(head), whole):
                    ends.answer(piece)
                    reader.feed(piece)
                    found = answer_of(ends).phase
                    assert (found is Phase.WHOLE) == reader.complete, (head, found, whole)
                    assert found is Phase.WHOLE or found >= Phase.HEAD
                assert reader.complete
            ends.client.close()


def made(chance: random.Random) -> tuple[bytes, bytes]:
    """The heads of an answer, and its body."""
    hints = HINT * chance.choice((0, 0, 1, 2))
    size = chance.choice((0, 1, 10, 1000, 5000))
    data = b"".join(chance.choices((b"0", b"\r\n", b"\r\n0\r\n\r\n", b"ab", b"5\r\n"), k=size))
    if chance.random() < 0.3:
        return hints + OK + b"Content-Length: %d\r\n\r\n" % len(data), data
    chunks, at = [], 0
    while at < len(data):
        piece = data[at : at + chance.choice((1, 2, 7, 100, 4000))]
        at += len(piece)
        chunks.append(b"%x%b\r\n%b\r\n" % (len(piece), chance.choice((b"", b";a=b")), piece))
    trailer = chance.choice((b"", b"Sum: 1\r\n", b"A: b\r\nC: d\r\n"))
    return hints + CHUNKED, b"".join((*chunks, b"0\r\n", trailer, b"\r\n"))


def cut(chance: random.Random, head: int, whole: bytes) -> list[bytes]:
    """In some pieces, of which the first has the head."""
    places = sorted(chance.randint(head, len(whole)) for _ in range(chance.randrange(8)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    return [piece for piece in pieces if piece]


def test_a_large_answer_in_large_segments() -> None:
    """As many chunks as there are, in whatever the kernel makes of them."""
    with followed() as scene:
        ends = scene.connect()
        large, small = b"1f40\r\n" + bytes(8000) + b"\r\n", b"1\r\nx\r\n"
        whole = CHUNKED + large * 500 + small * 20_000
        ends.ask(REQUEST)
        sending = threading.Thread(target=ends.old.sendall, args=[whole])
        sending.start()
        left = len(whole)
        while left:
            left -= len(ends.client.recv(left))
        sending.join()
        settled(ends.old)
        assert answer_of(ends).phase is Phase.CHUNK
        ends.answer(b"0\r\n\r\n")
        assert answer_of(ends).phase is Phase.WHOLE
        assert ends.carry(3600.0).carried


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([LENGTH, b"01234"], Refusal.PART),
        ([CHUNKED, b"3\r\nabc\r\n"], Refusal.PART),
        ([HINT], Refusal.HINTED),
        ([LENGTH[:30]], Refusal.PART),
        ([LENGTH[:30], LENGTH[30:]], None),
        ([OK + b"\r\n", b"hello"], Refusal.UNTIL_CLOSE),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"hello"], Refusal.UPGRADED),
    ],
)
def test_an_answer_that_pauses_is_left_alone(pieces: list[bytes], why: Refusal | None) -> None:
    """However long it takes, unless its head comes in pieces: then time decides."""
    with followed() as scene:
        ends = scene.connect()
        answered(ends, *pieces)
        assert ends.carry(grace=0.0).refused is why


def test_a_body_that_is_sent_once_it_is_asked_for() -> None:
    """What comes behind a 100 is no request, and the answer after it is that of the first."""
    with followed() as scene:
        ends = scene.connect()
        head = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        answered(ends, CONTINUE, request=head)
        assert ends.carry().refused is Refusal.HINTED
        ends.ask(b"body")
        assert ends.carry().refused is Refusal.HINTED
        ends.answer(LENGTH + b"0123456789")
        assert ends.seen() == Seen.LINE | Seen.EXPECT
        assert ends.carry(grace=3600.0).carried


def test_a_request_in_the_middle_of_an_answer() -> None:
    """Its client is one that does not wait, although all that was sent had arrived."""
    with followed() as scene:
        ends = scene.connect()
        answered(ends, LENGTH, b"01234")
        ends.ask(REQUEST)
        ends.answer(b"56789")
        assert ends.seen() & Seen.EARLY
        for grace in (0.0, None):
            assert ends.carry(grace).refused is Refusal.EARLY


def test_what_is_sent_again_is_no_news() -> None:
    """A client that acknowledges nothing for a while gets bytes twice."""
    with followed() as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        cbpf.attach_filter(ends.client, [cbpf.answer(0)])
        ends.old.sendall(LENGTH)
        ends.old.sendall(b"01234")
        wait_until(lambda: retransmits(ends.old), "a retransmission")
        assert answer_of(ends).phase is Phase.LENGTH
        socket_filter.detach(ends.client)
        settled(ends.old)
        ends.answer(b"56789")
        assert answer_of(ends).phase is Phase.WHOLE
        assert ends.carry(grace=3600.0).carried


def retransmits(connection: socket.socket) -> int:
    """Segments that were sent again (tcpi_total_retrans)."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(data[100:], "little")


def test_a_request_that_goes_along_is_followed_from_its_answer_on() -> None:
    """Its note is there before its new owner answers; else nothing is known of it."""
    with followed() as scene:
        ends = scene.connect()
        answered(ends, LENGTH, b"0123456789")
        ends.client.sendall(REQUEST)
        wait_unread(ends.old, len(REQUEST))
        assert ends.carry(unread=True).unread == len(REQUEST)
        ends.read(len(REQUEST))
        ends.answer(LENGTH)
        assert ends.carry().refused is Refusal.PART
        ends.answer(b"0123456789")
        assert ends.carry(grace=3600.0).carried


@pytest.mark.parametrize("answers", [LENGTH + b"0123456789", LENGTH])
def test_what_a_turning_connection_comes_to(answers: bytes) -> None:
    """It is waited for while its owner stands still; not longer than that."""
    with followed() as scene:
        ends = scene.connect()
        ends.ask(REQUEST)
        client = ends.client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        ends.old.sendall(answers)
        wish = Wish(ends.old, grace=3600.0, unread=True, turning=True)
        (report,) = scene.carrier.batch([wish], [scene.listener], [], PATIENCE)
        if answers is LENGTH:
            assert report.refused is Refusal.PART
        else:
            assert report.carried


def test_clients_by_another_interface_and_by_ipv6() -> None:
    """What they are sent goes out elsewhere."""
    with other_host() as there:
        for host in ("10.9.0.1", "fd09::1"):
            with followed(host) as scene:
                client = scene.stack.enter_context(dial(host, peer=there))
                ends = Ends(scene, client, scene.stack.enter_context(scene.listener.accept()[0]))
                assert answered(ends, CHUNKED, b"3\r\nabc\r\n").phase is Phase.CHUNK
                ends.answer(b"0\r\n\r\n")
                assert ends.carry(grace=3600.0).carried


def test_an_interface_that_is_new() -> None:
    """It is followed as the classifier that makes connections is."""
    with followed("0.0.0.0") as scene, other_host() as there:
        scene.carrier.follow_interfaces()
        client = scene.stack.enter_context(dial("10.9.0.1", peer=there))
        ends = Ends(scene, client, scene.stack.enter_context(scene.listener.accept()[0]))
        assert answered(ends, LENGTH, b"0123456789").phase is Phase.WHOLE


def test_the_next_request_has_an_answer_of_its_own() -> None:
    """Whatever is known of the last one."""
    with followed() as scene:
        ends = scene.connect()
        for answer, phase in (
            (b"hello", Phase.UNKNOWN),
            (LENGTH + b"0123456789", Phase.WHOLE),
            (LENGTH + b"0123456789+", Phase.MORE),
            (LENGTH + b"0123456789", Phase.WHOLE),
        ):
            assert answered(ends, answer).phase is phase
            ends.ask(REQUEST)
            assert ends.carry().refused is Refusal.OWED
            ends.answer(LENGTH + b"0123456789")
            assert ends.carry(3600.0).carried
