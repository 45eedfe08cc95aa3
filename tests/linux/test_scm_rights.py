"""Descriptors over a unix socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from tests import leaks
from tests.waiting import PATIENCE

from segue.errors import KernelError, UsageError, WireError
from segue.linux import scm_rights

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected sockets that wait two seconds at most."""
    left, right = socket.socketpair(socket.AF_UNIX, request.param)
    with left, right:
        for one in (left, right):
            one.settimeout(PATIENCE)
        yield left, right


def test_what_is_received_is_the_same_file(pair: Pair) -> None:
    """In the order given, with the payload, as duplicates that close on exec."""
    pipes = [os.pipe(), os.pipe()]
    scm_rights.send(pair[0], b"two pipes", [reader for reader, _ in pipes])
    payload, got = scm_rights.receive(pair[1], 100)
    assert payload == b"two pipes"
    assert [os.fstat(one).st_ino for one in got] == [os.fstat(one).st_ino for one, _ in pipes]
    assert not set(got) & {end for pipe in pipes for end in pipe}
    assert not any(os.get_inheritable(one) for one in got)
    for one in [*got, *pipes[0], *pipes[1]]:
        os.close(one)


def test_a_message_may_carry_none(pair: Pair) -> None:
    """And the end of the connection is neither bytes nor descriptors."""
    scm_rights.send(pair[0], b"x", [])
    assert scm_rights.receive(pair[1], 1) == (b"x", [])
    pair[0].close()
    assert scm_rights.receive(pair[1], 1) == (b"", [])


@pytest.mark.parametrize(("sent", "most"), [(2, 1), (3, 1), (4, 2), (253, 252)])
def test_more_than_asked_for_is_refused(pair: Pair, sent: int, most: int) -> None:
    """With none of them left open, also where the kernel had room for one more."""
    before = leaks.descriptors()
    scm_rights.send(pair[0], b"x", [0] * sent)
    with pytest.raises(WireError, match=f"more than {most} descriptors"):
        scm_rights.receive(pair[1], 10, most)
    assert leaks.descriptors() == before


def test_a_datagram_that_was_cut_is_refused() -> None:
    """Half a message is no message; its descriptors are closed."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        before = leaks.descriptors()
        scm_rights.send(left, b"0123456789", [0])
        with pytest.raises(WireError, match="longer than 4 bytes"):
            scm_rights.receive(right, 4)
        assert leaks.descriptors() == before


def test_a_long_payload_on_a_stream_arrives_whole() -> None:
    """What one call does not take is sent after it; the descriptors come with the first bytes."""
    left, right = socket.socketpair()
    long = os.urandom(1 << 20)
    with left, right:
        left.settimeout(PATIENCE)
        sender = threading.Thread(target=scm_rights.send, args=(left, long, [0]))
        sender.start()
        payload, got = scm_rights.receive(right, len(long))
        assert len(got) == 1
        os.close(got[0])
        while len(payload) < len(long):
            more, got = scm_rights.receive(right, len(long))
            assert more
            assert not got
            payload += more
        sender.join()
    assert payload == long


def test_what_cannot_be_sent_is_refused(pair: Pair) -> None:
    """Too many, nothing to go with, and a descriptor that is not open."""
    with pytest.raises(UsageError, match="at most 253 descriptors"):
        scm_rights.send(pair[0], b"x", [0] * 254)
    with pytest.raises(UsageError, match="at least one byte"):
        scm_rights.send(pair[0], b"", [0])
    with pytest.raises(KernelError, match="EBADF"):
        scm_rights.send(pair[0], b"x", [1 << 20])
