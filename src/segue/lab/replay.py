"""A story is replayed on Linux or on the model, and what is seen is written down so that it can be
compared.

Free, and so not written down: initial sequence numbers, the values of timestamps (but which stamp
of the client is echoed is), those of Fast Open cookies, windows after the SYN-ACK's,
identifications; which of several long segments has PSH; in what order the timers of several
clients fire during a wait; and an ACK by itself that acknowledges something new and has no SACK
range, since when it is sent, and whether with data, is the receiver's choice (RFC 9293, 3.8.6.3).
"""

from __future__ import annotations

import errno
import socket
import zlib
from itertools import count

from segue.errors import UsageError
from segue.lab.client import Client, Jar
from segue.lab.sides import STEP_S, Side
from segue.lab.stories import lines
from segue.wire import tcp
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN


def replay(story: str, side: Side) -> list[str]:
    """One line for each thing that was done, answered or sent, and one for the counters."""
    clients: dict[str, Client] = {}
    jar = Jar()
    set_to: dict[str, dict[str, int]] = {}
    ports = count(42000)
    free: set[str] = set()
    made: set[str] = set()  # names of what has options
    seen: list[str] = []
    for verb, *words in lines(story):
        seen.append(" ".join((verb, *words)))
        pause = STEP_S
        if verb == "wait":
            pause = float(words[0])
        elif verb == "free":
            free.add(words[0])
        elif verb == "option" and words[0] not in made:
            set_to.setdefault(words[0], {})[words[1]] = int(words[2])
        elif verb in _SETTINGS or verb in SEGMENTS:
            if words[0] not in clients:
                clients[words[0]] = Client(next(ports), side.version, jar)
            speaker = clients[words[0]]
            if verb == "offer":
                speaker.offer(words[1:])
            elif verb == "skip":
                speaker.seq += int(words[1])
            elif verb in _SETTINGS:
                setattr(speaker, verb, int(words[1]))
            else:
                payload = _text(words[1]) if len(words) > 1 else b""
                side.packet(speaker.packet(SEGMENTS[verb], payload))
        else:
            seen += _call(side, verb, words, set_to)
            made |= (
                {words[0]} if verb == "listen" else set(words[1:]) if verb == "accept" else set()
            )
        heard = _heard(side.settle(pause), clients)
        seen += sorted(heard, key=lambda line: line.split()[0]) if verb == "wait" else heard
    counted = {name: number for name, number in side.counts().items() if name not in free}
    return [*seen, f"counted {counted}"]


# The verbs of a story with which a client sends.
SEGMENTS = {
    "syn": SYN, "ack": ACK, "data": ACK | PSH, "fin": ACK | FIN, "rst": RST,
    "synfin": SYN | FIN, "rstack": RST | ACK,
}  # fmt: skip
# Those with which it only says what it will send.
_SETTINGS = ("offer", "skip", "claim", "window", "stamp")
_SHORT = 32  # what is longer is told by its length and a checksum
_SIDES = {"read": socket.SHUT_RD, "write": socket.SHUT_WR}


def _text(word: str) -> bytes:
    """What a story sends: the word, or as many bytes as it says, all of which differ nearby."""
    if not word.startswith("@"):
        return word.encode()
    size = int(word[1:])
    return b"".join(b"%08d" % at for at in range(0, size, 8))[:size]


def _call(side: Side, verb: str, words: list[str], set_to: dict[str, dict[str, int]]) -> list[str]:
    try:
        if verb == "sysctl":
            side.sysctl(words[0], words[1])
        elif verb == "listen":
            backlog = int(words[1]) if len(words) > 1 else 16
            side.listen(words[0], backlog, set_to.get(words[0], {}))
        elif verb == "ipv6":
            side.version = 6
        elif verb == "mtu":
            side.mtu(int(words[0]))
        elif verb == "option":
            side.set_option(words[0], words[1], int(words[2]))
        elif verb == "info":
            return [f"  = {side.info(words[0])}"]
        elif verb == "ask":
            return [f"  = {side.option(words[0], words[1])}"]
        elif verb == "program":
            side.program(words[0], words[1], migrates=words[2:] != ["select"])
        elif verb == "send":
            side.send(words[0], words[1])
        elif verb == "woken":
            return [f"  = {'woken' if side.woken(words[0]) else 'not woken'}"]
        elif verb == "shutdown":
            side.shutdown(words[0], _SIDES[words[1]] if len(words) > 1 else socket.SHUT_RDWR)
        elif verb == "close":
            side.close(words[0])
        elif verb == "accept":
            side.accept(words[0], words[1])
        elif verb == "read":
            data = side.read(words[0])
            short = len(data) <= _SHORT
            return [f"  = {data!r}" if short else f"  = {len(data)} bytes {zlib.crc32(data):08x}"]
        elif verb == "write":
            side.write(words[0], _text(words[1]))
        else:
            raise UsageError(f"no story has the verb {verb!r}")
    except KeyError as error:
        return [f"  = nothing has the name {error.args[0]}"]  # its accept() answered EAGAIN
    except OSError as error:
        return [f"  = {errno.errorcode[error.errno or 0]}"]
    return []


def _heard(packets: list[bytes], clients: dict[str, Client]) -> list[str]:
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
