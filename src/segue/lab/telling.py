"""A story is told to Linux or to the model, and what is seen is written down so that it can be
compared.

Free, and so not written down: initial sequence numbers, the values of timestamps, windows after the
SYN-ACK's, identifications; in what order the timers of several clients fire during a wait; and an
ACK by itself that acknowledges something new, since when it is sent, and whether with data, is the
receiver's choice (RFC 9293, 3.8.6.3).
"""

from __future__ import annotations

import errno
import ipaddress
from itertools import count

from segue.errors import UsageError
from segue.lab.sides import PORT, SERVERS, STEP_S, Side
from segue.lab.stories import lines
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

_MASK = 0xFFFFFFFF
_CLIENTS = {4: "10.78.0.1", 6: "fd78::1"}
_ADDRESSES = {
    version: ipaddress.ip_address(_CLIENTS[version]).packed
    + ipaddress.ip_address(SERVERS[version]).packed
    for version in (4, 6)
}
_OFFER = Options(mss=1460, window_scale=7, sack_permitted=True, stamps=(1000, 0))


class _Client:
    def __init__(self, port: int, version: int) -> None:
        self._version = version
        self.ports = port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
        self.first, self.seq, self.ack, self.theirs = 7000, 7000, 0, 0
        self.seen, self.echo = 0, 0

    def packet(self, flags: int, payload: bytes = b"") -> bytes:
        said = _OFFER if flags == SYN else Options(stamps=(1000, self.echo))
        addresses = _ADDRESSES[self._version]
        made = tcp.emit(
            addresses, self.ports, self.seq & _MASK, self.ack if flags & ACK else 0, flags, 500,
            options.emit(said), payload,
        )  # fmt: skip
        self.seq += len(payload) + bool(flags & (SYN | FIN))
        emit = ipv4.emit if self._version == 4 else ipv6.emit
        return emit(addresses, ipv4.TCP, made)

    def hears(self, segment: Segment) -> str | None:
        """The segment in words that can be compared; None for an ACK that only has news."""
        found = options.parse(segment.options)
        flags, size = segment.flags, len(segment.payload)
        if flags & SYN:
            self.theirs = segment.seq
            if segment.ack != self.seq:
                self.seq = segment.ack
        end = (segment.seq + size + bool(flags & (SYN | FIN))) & _MASK
        if not flags & RST and segment.seq == (self.ack or segment.seq):
            self.ack = end
        news = segment.ack != self.seen
        self.seen = segment.ack if flags & ACK else self.seen
        if flags == ACK and not size and news:
            # Nor is its stamp echoed: it may be what a SYN cookie's options are read from again.
            return None
        if found.stamps is not None:
            self.echo = found.stamps[0]
        names = str(segment).split(" ", 3)[3].split(" seq")[0]
        # Of what is for nobody the number is none of the connection's: RST with ACK says zero.
        known = self.theirs and (segment.seq or not flags & RST)
        words = [names, f"seq +{(segment.seq - self.theirs) & _MASK}" if known else ""]
        words.append(f"ack +{(segment.ack - self.first) & _MASK}" if flags & ACK else "")
        if size:
            words.append(repr(bytes(segment.payload)))
        if flags & SYN:
            words.append(
                f"win {segment.window} mss {found.mss} scale {found.window_scale}"
                f" sack {found.sack_permitted}"
            )
        words.append("stamps" if found.stamps else "")
        words.append(f"sack {len(found.sack)}" if found.sack else "")
        return " ".join(word for word in words if word)


def tell(story: str, side: Side) -> list[str]:
    """Tell it; one line for each thing that was done, answered or sent, and the counters."""
    clients: dict[str, _Client] = {}
    set_to: dict[str, dict[str, int]] = {}
    ports = count(42000)
    seen: list[str] = []
    for verb, *words in lines(story):
        seen.append(" ".join((verb, *words)))
        pause = STEP_S
        if verb == "wait":
            pause = float(words[0])
        elif verb == "option":
            set_to.setdefault(words[0], {})[words[1]] = int(words[2])
        elif verb == "skip" or verb in SEGMENTS:
            if words[0] not in clients:
                clients[words[0]] = _Client(next(ports), side.version)
            speaker = clients[words[0]]
            if verb == "skip":
                speaker.seq += int(words[1])
            else:
                payload = words[1].encode() if len(words) > 1 else b""
                side.packet(speaker.packet(SEGMENTS[verb], payload))
        else:
            seen += _call(side, verb, words, set_to)
        heard = _heard(side.settle(pause), clients)
        seen += sorted(heard, key=lambda line: line.split()[0]) if verb == "wait" else heard
    return [*seen, f"counted {side.counts()}"]


# The verbs of a story with which a client sends.
SEGMENTS = {"syn": SYN, "ack": ACK, "data": ACK | PSH, "fin": ACK | FIN, "rst": RST}


def _call(side: Side, verb: str, words: list[str], set_to: dict[str, dict[str, int]]) -> list[str]:
    try:
        if verb == "sysctl":
            side.sysctl(words[0], words[1])
        elif verb == "listen":
            backlog = int(words[1]) if len(words) > 1 else 16
            side.listen(words[0], backlog, set_to.get(words[0], {}))
        elif verb == "ipv6":
            side.version = 6
        elif verb == "program":
            side.program(words[0], words[1], migrates=words[2:] != ["select"])
        elif verb == "send":
            side.send(words[0], words[1])
        elif verb == "woken":
            return [f"  = {'woken' if side.woken(words[0]) else 'not woken'}"]
        elif verb == "shutdown":
            side.shutdown(words[0])
        elif verb == "close":
            side.close(words[0])
        elif verb == "accept":
            side.accept(words[0], words[1])
        elif verb == "read":
            return [f"  = {side.read(words[0])!r}"]
        elif verb == "write":
            side.write(words[0], words[1].encode())
        else:
            raise UsageError(f"no story has the verb {verb!r}")
    except KeyError as error:
        return [f"  = nothing has the name {error.args[0]}"]  # its accept() answered EAGAIN
    except OSError as error:
        return [f"  = {errno.errorcode[error.errno or 0]}"]
    return []


def _heard(packets: list[bytes], clients: dict[str, _Client]) -> list[str]:
    by_port = {int.from_bytes(one.ports[:2], "big"): (name, one) for name, one in clients.items()}
    found = []
    for packet in packets:
        segment = tcp.segment_in(packet)
        if segment is None or segment.dport not in by_port:
            continue
        name, client = by_port[segment.dport]
        said = client.hears(segment)
        if said is not None:
            found.append(f"  {name} < {said}")
    return found
