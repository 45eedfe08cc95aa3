"""A netlink socket whose answers are cut short, repeated, late or not to be had."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from segue.errors import KernelError, WireError
from segue.linux.inet_diag import encode_request
from segue.linux.netlink import Netlink, decode, encode

SOCK_DIAG, BY_FAMILY = 4, 20
ERROR, DONE = 2, 3
MULTI, INTERRUPTED = 0x2, 0x10

Answer = bytes | OSError


class Script:
    """Stands where the kernel's socket was: each recv() takes the next answer."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.answers and flags & socket.MSG_DONTWAIT:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        self.answers.clear()


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    with Netlink(SOCK_DIAG) as made:
        made._socket.close()
        yield made


def play(netlink: Netlink, *answers: Answer) -> Script:
    script = Script(*answers)
    netlink._socket = script  # type: ignore[assignment]
    return script


def piece(sequence: int, text: bytes, flags: int = MULTI) -> bytes:
    return encode(BY_FAMILY, flags, sequence, text)


def done(sequence: int, code: int = 0, flags: int = MULTI) -> bytes:
    return encode(DONE, flags, sequence, struct.pack("=i", -code))


def listed(netlink: Netlink) -> list[bytes]:
    return [bytes(one) for one in netlink.dump(BY_FAMILY, b"", "listing")]


def test_a_dump_comes_in_pieces_until_done(netlink: Netlink) -> None:
    """Several messages a buffer, and what follows the end is nobody's."""
    play(netlink, piece(1, b"aaaa") + piece(1, b"bbbb"), piece(1, b"cccc") + done(1))
    assert listed(netlink) == [b"aaaa", b"bbbb", b"cccc"]


def test_a_dump_that_fails_at_its_end_raises(netlink: Netlink) -> None:
    """The errno of NLMSG_DONE, which a protocol without a handler answers with."""
    play(netlink, piece(1, b"aaaa") + done(1, errno.ENOENT))
    with pytest.raises(KernelError, match="listing: netlink failed with ENOENT"):
        listed(netlink)


@pytest.mark.parametrize("at_the_end", [True, False])
def test_a_dump_that_the_table_changed_under_is_read_again(
    netlink: Netlink, at_the_end: bool
) -> None:
    """NLM_F_DUMP_INTR may stand on any message; the second, whole one counts."""
    flags = [MULTI, MULTI]
    flags[at_the_end] |= INTERRUPTED
    script = play(
        netlink,
        piece(1, b"old.", flags[0]) + done(1, flags=flags[1]),
        piece(2, b"new.") + done(2),
    )
    assert listed(netlink) == [b"new."]
    assert len(script.sent) == 2


def test_a_table_that_always_changes_is_taken_as_it_is(netlink: Netlink) -> None:
    """After the third time, rather than never."""
    play(
        netlink,
        *(piece(n, b"%4d" % n, MULTI | INTERRUPTED) + done(n) for n in (1, 2, 3)),
    )
    assert listed(netlink) == [b"   3"]


def test_a_buffer_that_overran_is_asked_again(netlink: Netlink) -> None:
    """ENOBUFS: messages are missing, so none of that dump is used."""
    script = play(
        netlink,
        piece(1, b"part"),
        OSError(errno.ENOBUFS, "overrun"),
        piece(1, b"late"),
        BlockingIOError(errno.EAGAIN, "empty"),
        piece(2, b"all.") + done(2),
    )
    assert listed(netlink) == [b"all."]
    assert len(script.sent) == 2


def test_a_buffer_that_always_overruns_raises(netlink: Netlink) -> None:
    """Three times, then the errno."""
    again = BlockingIOError(errno.EAGAIN, "empty")
    full = [OSError(errno.ENOBUFS, "overrun") for _ in range(3)]
    play(netlink, full[0], again, full[1], again, full[2])
    with pytest.raises(KernelError, match="ENOBUFS"):
        listed(netlink)


def test_an_order_is_not_given_twice(netlink: Netlink) -> None:
    """ENOBUFS after a request says nothing of whether it was carried out."""
    script = play(netlink, OSError(errno.ENOBUFS, "overrun"))
    with pytest.raises(KernelError, match="ending: netlink failed with ENOBUFS"):
        netlink.request(21, b"", "ending", acknowledged=True)
    assert len(script.sent) == 1


def test_an_answer_that_was_given_up_is_not_the_next_ones(netlink: Netlink) -> None:
    """Whether it lies in the socket already or comes in between: its number is another."""
    play(
        netlink,
        b"\x01\x00\x00\x00" + bytes(12),
        piece(1, b"old.") + done(1),
        BlockingIOError(errno.EAGAIN, "empty"),
        piece(1, b"old.") + piece(2, b"new.") + done(2),
    )
    with pytest.raises(WireError):
        listed(netlink)
    assert listed(netlink) == [b"new."]


def looked_up(netlink: Netlink, *asked: bytes) -> list[bytes | None]:
    found = netlink.look_up(BY_FAMILY, asked, "looking")
    return [None if one is None else bytes(one) for one in found]


def failed(sequence: int, code: int) -> bytes:
    return encode(ERROR, 0, sequence, struct.pack("=i", -code) + bytes(16))


def test_what_is_looked_up_together_comes_in_its_order(netlink: Netlink) -> None:
    """Each answer has the number of its question; what is not there has none."""
    script = play(
        netlink, piece(9, b"old.", 0), piece(3, b"cccc", 0), piece(1, b"aaaa", 0) + failed(2, 2)
    )
    asked = [b"a", b"bb", b"ccc"]
    assert looked_up(netlink, *asked) == [b"aaaa", None, b"cccc"]
    (sent,) = script.sent
    read = [(sequence, bytes(payload)) for _, _, sequence, payload in decode(memoryview(sent))]
    assert read == list(enumerate(asked, 1))


def test_many_are_looked_up_in_parts_for_which_there_is_room(netlink: Netlink) -> None:
    """The kernel would drop answers that the socket's buffer cannot hold."""
    script = play(netlink, *(piece(1 + n, b"%4d" % n, 0) for n in range(40)))
    assert looked_up(netlink, *[b"1234"] * 40) == [b"%4d" % n for n in range(40)]
    assert [len(list(decode(memoryview(sent)))) for sent in script.sent] == [16, 16, 8]
    assert looked_up(netlink) == []


def test_a_refused_one_of_several_raises_and_the_rest_is_nobodys(netlink: Netlink) -> None:
    """What follows it lies in the socket, and is read off before the next question."""
    script = play(
        netlink,
        failed(1, errno.EPERM),
        piece(2, b"late", 0),
        BlockingIOError(errno.EAGAIN, "empty"),
        piece(3, b"new.", 0),
    )
    with pytest.raises(KernelError, match="looking: netlink failed with EPERM"):
        looked_up(netlink, b"a", b"b")
    assert looked_up(netlink, b"c") == [b"new."]
    assert not script.answers


def test_a_kernel_that_does_not_answer_is_not_waited_for(netlink: Netlink) -> None:
    """The receive timeout comes out as EAGAIN."""
    play(netlink, BlockingIOError(errno.EAGAIN, "timed out"))
    with pytest.raises(KernelError, match="EAGAIN"):
        netlink.request(BY_FAMILY, b"", "asking")


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_dump_left_in_the_middle_does_not_block_the_next() -> None:
    """The live kernel refuses a second dump while one goes on (EBUSY), unless it is read off."""
    states = 1 << 10
    with Netlink(SOCK_DIAG) as asked:
        listeners = [socket.create_server(("127.0.0.1", 8000 + n)) for n in range(600)]
        real = asked._socket

        class Interrupted(Script):
            """It has read, and is interrupted before it can say so."""

            def send(self, data: bytes) -> int:
                return real.send(data)

            def recv(self, size: int, flags: int = 0) -> bytes:
                real.recv(64)
                raise KeyboardInterrupt

        asked._socket = Interrupted()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            asked.dump(BY_FAMILY, encode_request(socket.AF_INET, states), "listing")
        asked._socket = real
        for _ in range(2):
            found = asked.dump(BY_FAMILY, encode_request(socket.AF_INET, states), "listing")
            assert len(found) == 600
        for one in listeners:
            one.close()
