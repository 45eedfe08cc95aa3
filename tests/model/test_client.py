"""The model's own client: a handshake, data, both ends and Fast Open, in packets both ways."""

from __future__ import annotations

import pytest

from segue.address import Address
from segue.model.client import OFFER, Client, Heard
from segue.model.host import Host
from segue.model.listener import Listener
from segue.wire.options import Options, parse
from segue.wire.seq import Seq, distance
from segue.wire.tcp import ACK, SYN, segment_in

PAIRS = [("10.77.0.2", "10.77.0.1"), ("fd77::2", "fd77::1")]


class Talk:
    """A listener, and clients whose packets go to it."""

    def __init__(self, there: str, here: str, **set_to: int) -> None:
        self.server, self.here = Address(there, 80), here
        self.host = Host(there, secret=bytes(16))
        self.listener: Listener = self.host.socket()
        for name, value in set_to.items():
            self.host.setsockopt(self.listener, name, value)
        self.host.bind(self.listener, self.server)
        self.host.listen(self.listener, 8)

    def client(self, port: int, offer: Options = OFFER) -> Client:
        return Client(Address(self.here, port), self.server, offer)

    def say(self, client: Client, packet: bytes) -> list[Heard]:
        """What the client hears of it."""
        self.host.receive(100.0, packet)
        return self.take(client)

    def take(self, client: Client) -> list[Heard]:
        heard = [client.hears(one) for one in self.host.take()]
        return [one for one in heard if one is not None]


@pytest.mark.parametrize(("there", "here"), PAIRS, ids=["IPv4", "IPv6"])
def test_a_conversation(there: str, here: str) -> None:
    """Handshake, data both ways, and the end, with numbers that count from the beginning."""
    talk = Talk(there, here)
    client = talk.client(40000)
    (answer,) = talk.say(client, client.syn())
    assert (answer.names, answer.seq, answer.ack) == ("SYN ACK", 0, 1)
    assert talk.say(client, client.ack()) == []
    served = talk.host.accept(talk.listener)
    (news,) = talk.say(client, client.data(b"hello"))
    assert (news.is_news, news.ack) == (True, 6)
    assert talk.host.read(100.0, served) == b"hello"
    talk.host.write(100.0, served, b"bye")
    (said,) = talk.take(client)
    assert (said.payload, str(said)) == (b"bye", "PSH ACK seq +1 ack +6 b'bye' stamps +0")
    talk.say(client, client.fin())
    talk.host.close(100.0, served)
    (end,) = talk.take(client)
    assert (end.names, end.seq, end.ack) == ("FIN ACK", 4, 7)


def test_a_fast_open_cookie_is_heard_and_said() -> None:
    """Asked for first; with it the data of the SYN is taken."""
    talk = Talk(*PAIRS[0], TCP_FASTOPEN=4)
    talk.host.sysctls.tcp_fastopen = 3
    first = talk.client(40000, Options(mss=1460, fast_open=b""))
    talk.say(first, first.syn())
    assert len(first.cookie) == 8
    second = talk.client(40001, Options(mss=1460, fast_open=first.cookie))
    (answer,) = talk.say(second, second.syn(b"early"))
    assert answer.ack == 1 + len(b"early")
    assert talk.host.read(100.0, talk.host.accept(talk.listener)) == b"early"


def test_data_in_a_syn_that_was_not_taken_is_said_again() -> None:
    """Its next segment begins where the SYN-ACK says."""
    talk = Talk(*PAIRS[0])
    client = talk.client(40000)
    (answer,) = talk.say(client, client.syn(b"early"))
    assert answer.ack == 1
    (news,) = talk.say(client, client.data(b"early"))
    assert news.ack == 6


def test_wrong_segments_are_said_on_request() -> None:
    """A wrong acknowledgement once, other flags, and a reset for nobody."""
    talk = Talk(*PAIRS[0])
    client = talk.client(40000)
    talk.say(client, client.syn())
    client.claim = 10
    (answer,) = talk.say(client, client.ack())
    assert answer.names == "RST"
    assert talk.say(client, client.segment(SYN | ACK))[0].names == "RST"
    assert talk.say(client, client.rst()) == []


def test_what_is_for_another_is_not_heard() -> None:
    """By its port."""
    talk = Talk(*PAIRS[0])
    one, other = talk.client(40000), talk.client(40001)
    talk.host.receive(100.0, one.syn())
    (packet,) = talk.host.take()
    assert other.hears(packet) is None
    assert one.hears(packet) is not None
    assert one.hears(b"no packet at all") is None


def test_what_is_lost_is_told_by_ranges() -> None:
    """Of what came after it, and once of what came twice (RFC 2018, RFC 2883)."""
    talk = Talk(*PAIRS[0])
    client = talk.client(40000)
    talk.say(client, client.syn())
    talk.say(client, client.ack())
    served = talk.host.accept(talk.listener)
    client.lose(2)
    talk.host.write(100.0, served, bytes(3 * 1448))
    assert len(talk.take(client)) == 3
    assert _ranges(client.ack()) == [(1448, 2896)]
    talk.host.advance(100.5)
    (tail,) = talk.take(client)  # it is asked about, since nothing was said
    assert tail.seq == 2897
    assert _ranges(client.ack()) == [(1448, 2896), (1448, 2896)]
    assert _ranges(client.ack()) == [(1448, 2896)]


def _ranges(packet: bytes) -> list[tuple[int, int]]:
    """What it tells by SACK, counted from what it acknowledges."""
    said = segment_in(packet)
    assert said is not None
    return [
        (distance(said.ack, Seq(low)), distance(said.ack, Seq(high)))
        for low, high in parse(said.options).sack
    ]
