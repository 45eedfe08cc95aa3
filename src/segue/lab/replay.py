"""A story is replayed on Linux or on the model, and what is seen is written down so that it can be
compared.

Free, and so not written down: initial sequence numbers, the values of timestamps (but which stamp
of the client is echoed is), those of Fast Open cookies, windows after the SYN-ACK's,
identifications; which of several long segments has PSH; in what order the timers of several
clients fire during a wait; and an ACK by itself that acknowledges something new and has no SACK
range, since when it is sent, and whether with data, is the receiver's choice (RFC 9293, 3.8.6.3).
A story can have these ACKs and the windows compared (``compare acks windows``).
"""

from __future__ import annotations

import errno
import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from segue.address import Address
from segue.errors import UsageError
from segue.lab.sides import PORT, STEP_S, ModelSide, Side, kernel, linux_here
from segue.lab.stage import SERVERS
from segue.lab.stories import compared_in, free_in, lines
from segue.lab.ticks import first_tick
from segue.model.client import STAMP, Client, Heard
from segue.model.durations import TICK
from segue.model.timing import EXACT, Late, Ticks, Timing
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN

_FIRST_PORT = 42000
_WRONG = b"nobody's"  # as long as a Fast Open cookie is


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a story, what its call answered, and what clients heard, in order, by name."""

    said: str
    answers: tuple[str, ...]
    heard: tuple[tuple[str, Heard], ...]
    compared: frozenset[str]  # of what is free otherwise: acks, windows

    @property
    def lines(self) -> list[str]:
        """As they are compared: without what is free."""
        windows = "windows" in self.compared
        found = [
            f"  {name} < {heard.told(window=windows)}"
            for name, heard in self.heard
            if not heard.is_news or "acks" in self.compared
        ]
        if self.said.startswith("wait "):
            found.sort(key=lambda line: line.split()[0])
        return [self.said, *(f"  = {one}" for one in self.answers), *found]


def replay(story: str, side: Side) -> list[str]:
    """One line for each thing that was done, answered or sent, and one for the counters."""
    seen = [line for step in steps(story, side) for line in step.lines]
    return [*seen, f"counted {counted(story, side)}"]


def both(story: str) -> tuple[list[str], list[str]]:
    """What Linux and what the model tell of a story.  Needs root."""
    with kernel() as linux:
        seen = replay(story, linux)
    return seen, answer(story, seen, linux.steps, linux.began)


def answer(story: str, seen: list[str], took: Sequence[float], began: float) -> list[str]:
    """What the model tells of a story of which Linux has told this, in steps that took so long.

    The model's clock is Linux's, of which a SYN cookie takes the low bits, and its timers fire as
    Linux's may have.
    """
    ours: list[str] = []
    for timing in timings():
        told = replay(story, ModelSide(linux_here(), took, timing=timing, begins=began))
        if told == seen:
            return told
        ours = ours or told
    return ours


def timings() -> tuple[Timing, ...]:
    """When the model's timers may fire for a story that Linux has told, the likeliest first.

    At the same ticks.  Of an idle processor they may fire a tick later, and when in a step Linux
    has looked at its clock is not known.  Where the two differ all timers are therefore a tick
    later; then exact, and late by one tick and by two.
    """
    first = first_tick()
    at_ticks = () if first is None else (Ticks(first), Ticks(first, more=1))
    return (*at_ticks, EXACT, Late(TICK), Late(2 * TICK))


def counted(story: str, side: Side) -> dict[str, int]:
    """The counters so far, but for those that the story leaves free."""
    free = free_in(story)
    return {name: number for name, number in side.counts().items() if name not in free}


def speakers(story: str) -> dict[str, int]:
    """The clients of a story, and the port from which each speaks."""
    return _speakers(lines(story))


def _speakers(said: list[list[str]]) -> dict[str, int]:
    names = dict.fromkeys(
        words[0] for verb, *words in said if verb in _SETTINGS or verb in SEGMENTS
    )
    return dict(zip(names, count(_FIRST_PORT), strict=False))


class Telling:
    """A story that is told to one side line by line, so that several can be told at once.

    Of each of ``lines`` first ``say`` is called, and then ``hear``.
    """

    def __init__(self, story: str, side: Side) -> None:
        self.lines = lines(story)
        self._side = side
        self._ports = _speakers(self.lines)
        self._clients: dict[str, Client] = {}
        self._jar = b""  # the Fast Open cookie that was given last: all clients have one address
        self._set_to: dict[str, dict[str, int]] = {}
        self._made: set[str] = set()  # names of what has options
        self._answers: list[str] = []
        self._compared = frozenset(compared_in(story))
        if any(verb == "carry" for verb, *_ in self.lines):
            side.prepare_to_carry()

    def say(self, line: list[str]) -> float:
        """Do it; how long it is told to take.  Raises UsageError for what no story can say."""
        verb, *words = line
        self._answers = []
        if verb == "wait":
            return float(words[0])
        if verb == "option" and words[0] not in self._made:
            self._set_to.setdefault(words[0], {})[words[1]] = int(words[2])
        elif verb in _SETTINGS or verb in SEGMENTS:
            self._speak(verb, words)
        elif verb not in {"free", "compare"}:
            self._answers = _call(self._side, verb, words, self._set_to)
            if verb in {"listen", "accept"}:
                self._made.add(words[verb == "accept"])
        return STEP_S

    def _speak(self, verb: str, words: list[str]) -> None:
        side = self._side
        if words[0] not in self._clients:
            here = Address(side.clients[side.version], self._ports[words[0]])
            self._clients[words[0]] = Client(here, Address(SERVERS[side.version], PORT))
        speaker = self._clients[words[0]]
        if verb == "offer":
            speaker.offer = _offer(words[1:], self._jar)
        elif verb == "skip":
            speaker.seq += int(words[1])
        elif verb == "lose":
            speaker.lose(int(words[1]))
        elif verb in _SETTINGS:
            setattr(speaker, verb, int(words[1]))
        else:
            payload = _text(words[1]) if len(words) > 1 else b""
            size = int(words[2]) if len(words) > 2 else len(payload)
            while len(payload) > size:
                side.packet(speaker.segment(SEGMENTS[verb] & ~PSH, payload[:size]))
                payload = payload[size:]
            side.packet(speaker.segment(SEGMENTS[verb], payload))

    def hear(self, line: list[str], packets: list[bytes]) -> Step:
        """What was sent until it was over."""
        heard = _heard(packets, self._clients)
        for _, one in heard:
            self._jar = self._jar if one.options.fast_open is None else one.options.fast_open
        return Step(" ".join(line), tuple(self._answers), tuple(heard), self._compared)


def steps(story: str, side: Side) -> Iterator[Step]:
    """Do one step of the story after the other.  Raises UsageError for what no story can say."""
    telling = Telling(story, side)
    for line in telling.lines:
        pause = telling.say(line)
        yield telling.hear(line, side.settle(pause))


def _offer(words: list[str], jar: bytes) -> Options:
    """What a SYN is to say, and nothing else (segue.lab.verbs has the words)."""
    said = Options()
    for word in words:
        name, _, value = word.partition("=")
        if name == "mss":
            said.mss = int(value)
        elif name == "scale":
            said.window_scale = int(value)
        elif name == "sack":
            said.sack_permitted = True
        elif name == "stamps":
            said.stamps = (STAMP, 0)
        elif name == "cookie":
            said.fast_open = _WRONG if value == "wrong" else jar
        else:
            raise UsageError(f"no client can offer {word!r}")
    return said


# The verbs of a story with which a client sends.
SEGMENTS = {
    "syn": SYN, "ack": ACK, "data": ACK | PSH, "pour": ACK | PSH, "fin": ACK | FIN, "rst": RST,
    "synfin": SYN | FIN, "rstack": RST | ACK,
}  # fmt: skip
# Those with which it only says what it will send.
_SETTINGS = ("offer", "skip", "claim", "lose", "window", "stamp")
_SHORT = 32  # what is longer is told by its length and a checksum
_SIDES = {"read": socket.SHUT_RD, "write": socket.SHUT_WR}


@lru_cache
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
            return [side.info(words[0])]
        elif verb == "ask":
            return [str(side.option(words[0], words[1]))]
        elif verb == "program":
            side.program(words[0], words[1], migrates=words[2:] != ["select"])
        elif verb == "send":
            side.send(words[0], words[1])
        elif verb == "carry":
            return [side.carry(words[0])]
        elif verb == "woken":
            return ["woken" if side.woken(words[0]) else "not woken"]
        elif verb == "shutdown":
            side.shutdown(words[0], _SIDES[words[1]] if len(words) > 1 else socket.SHUT_RDWR)
        elif verb == "close":
            side.close(words[0])
        elif verb == "accept":
            side.accept(words[0], words[1])
        elif verb == "read":
            data = side.read(words[0])
            short = len(data) <= _SHORT
            return [repr(data) if short else f"{len(data)} bytes {zlib.crc32(data):08x}"]
        elif verb == "write":
            side.write(words[0], _text(words[1]))
        else:
            raise UsageError(f"no story has the verb {verb!r}")
    except KeyError as error:
        return [f"nothing has the name {error.args[0]}"]  # its accept() answered EAGAIN
    except OSError as error:
        return [errno.errorcode[error.errno or 0]]
    return []


def _heard(packets: list[bytes], clients: dict[str, Client]) -> list[tuple[str, Heard]]:
    found = []
    for packet in packets:
        for name, client in clients.items():
            heard = client.hears(packet)
            if heard is not None:
                found.append((name, heard))
                break
    return found
