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
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Protocol

from segue.address import Address
from segue.errors import NotSupported, UsageError
from segue.lab.stories import lines
from segue.linux import netns, snmp, sysctl
from segue.linux.tun import Tun
from segue.model.connection import Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.profile import LINUX, Profile
from segue.wire import ipv4, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

SERVER, CLIENT, PORT = "10.78.0.2", "10.78.0.1", 80
STEP_S = 0.02  # the time that a step takes in the model; in Linux about as long
QUIET_S = 0.012
COUNTED = ("TCPMigrateReqSuccess", "TCPMigrateReqFailure", "ListenOverflows", "ListenDrops")
_MASK = 0xFFFFFFFF
_ADDRESSES = ipaddress.ip_address(CLIENT).packed + ipaddress.ip_address(SERVER).packed
_OFFER = Options(mss=1460, window_scale=7, sack_permitted=True, stamps=(1000, 0))


class Side(Protocol):
    """What a story is told to.  Calls raise OSError."""

    def packet(self, packet: bytes) -> None:
        """It arrives."""

    def settle(self, seconds: float) -> list[bytes]:
        """What was sent while so much time passed."""

    def sysctl(self, name: str, value: str) -> None:
        """Set one under net.ipv4."""

    def listen(self, name: str, backlog: int, set_to: dict[str, int]) -> None:
        """Make a listener, if there is none of that name, and let it listen."""

    def shutdown(self, name: str) -> None:
        """Of a listener."""

    def close(self, name: str) -> None:
        """Of anything."""

    def accept(self, listener: str, name: str) -> None:
        """Without waiting."""

    def read(self, name: str) -> bytes:
        """Without waiting."""

    def write(self, name: str, data: bytes) -> None:
        """All of it."""

    def counts(self) -> dict[str, int]:
        """Those of COUNTED since the beginning."""


class ModelSide:
    """The model, with a clock that only the story moves."""

    def __init__(self, profile: Profile = LINUX) -> None:
        self._host = Host(SERVER, secret=b"a story's secret", profile=profile)
        self._now = 1000.0
        self._named: dict[str, Listener | Connection] = {}

    def packet(self, packet: bytes) -> None:
        """It arrives."""
        self._host.receive(self._now, packet)

    def settle(self, seconds: float) -> list[bytes]:
        """Every timer at its instant."""
        until = self._now + seconds
        while (due := self._host.deadline()) is not None and due <= until:
            self._now = max(self._now, due)
            self._host.advance(self._now)
        self._now = until
        self._host.events()
        return self._host.take()

    def sysctl(self, name: str, value: str) -> None:
        """Set one."""
        setattr(self._host.sysctls, name, int(value))

    def listen(self, name: str, backlog: int, set_to: dict[str, int]) -> None:
        """Make a listener, if there is none of that name, and let it listen."""
        if name not in self._named:
            made = self._host.socket()
            self._named[name] = made
            for option, value in {"SO_REUSEPORT": 1, **set_to}.items():
                self._host.setsockopt(made, option, value)
            self._host.bind(made, Address(SERVER, PORT))
        self._host.listen(self._listener(name), backlog)

    def shutdown(self, name: str) -> None:
        """Of a listener."""
        self._host.shutdown(self._now, self._named[name])

    def close(self, name: str) -> None:
        """Of anything."""
        self._host.close(self._now, self._named[name])

    def accept(self, listener: str, name: str) -> None:
        """Raises OSError."""
        self._named[name] = self._host.accept(self._listener(listener))

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        return self._host.read(self._now, self._connection(name))

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError."""
        self._host.write(self._now, self._connection(name), data)

    def counts(self) -> dict[str, int]:
        """Those of COUNTED that are not zero."""
        return {name: self._host.counts[name] for name in COUNTED if self._host.counts[name]}

    def _listener(self, name: str) -> Listener:
        found = self._named[name]
        assert isinstance(found, Listener)
        return found

    def _connection(self, name: str) -> Connection:
        found = self._named[name]
        assert isinstance(found, Connection)
        return found


class KernelSide:
    """Linux, in the calling thread's network namespace, behind a TUN interface."""

    def __init__(self, tun: Tun) -> None:
        self._tun = tun
        self._named: dict[str, socket.socket] = {}
        self._before = snmp.read()

    def packet(self, packet: bytes) -> None:
        """It arrives."""
        self._tun.write(packet)

    def settle(self, seconds: float) -> list[bytes]:
        """Until nothing comes for a moment; a wait is waited."""
        found: list[bytes] = []
        until = time.monotonic() + (seconds if seconds > STEP_S else 0)
        poll = select.poll()
        poll.register(self._tun, select.POLLIN)
        while poll.poll(max(QUIET_S, until - time.monotonic()) * 1000):
            while (packet := self._tun.read()) is not None:
                found.append(packet)
        return found

    def sysctl(self, name: str, value: str) -> None:
        """Set one."""
        sysctl.write(f"net.ipv4.{name}", value)

    def listen(self, name: str, backlog: int, set_to: dict[str, int]) -> None:
        """Make a listener, if there is none of that name, and let it listen."""
        if name not in self._named:
            made = socket.socket()
            self._named[name] = made
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for option, value in set_to.items():
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            made.bind((SERVER, PORT))
        self._named[name].listen(backlog)

    def shutdown(self, name: str) -> None:
        """Of a listener."""
        self._named[name].shutdown(socket.SHUT_RDWR)

    def close(self, name: str) -> None:
        """Of anything."""
        self._named[name].close()

    def accept(self, listener: str, name: str) -> None:
        """Raises OSError."""
        accepted = self._named[listener].accept()[0]
        accepted.setblocking(False)
        self._named[name] = accepted

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        return self._named[name].recv(65536)

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError."""
        self._named[name].sendall(data)

    def counts(self) -> dict[str, int]:
        """Those of COUNTED that have changed."""
        grown = snmp.difference(self._before, snmp.read())
        known = {name: grown.get(f"TcpExt.{name}", 0) for name in COUNTED}
        return {name: value for name, value in known.items() if value}

    def end(self) -> None:
        """Close all that is open."""
        for one in self._named.values():
            one.close()


@contextmanager
def kernel() -> Iterator[KernelSide]:
    """Linux, in a namespace of its own.  Needs CAP_SYS_ADMIN and /dev/net/tun."""
    with netns.fresh(), Tun("story%d") as tun:
        with suppress(NotSupported):  # a kernel without IPv6 says nothing unasked either
            sysctl.write(f"net.ipv6.conf.{tun.name}.disable_ipv6", "1")
        tun.configure(f"{SERVER}/24")
        sysctl.write("net.ipv4.tcp_rmem", "4096 131072 6291456")  # what the model assumes
        side = KernelSide(tun)
        try:
            yield side
        finally:
            side.end()


class _Client:
    def __init__(self, port: int) -> None:
        self.ports = port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
        self.first, self.seq, self.ack, self.theirs = 7000, 7000, 0, 0
        self.seen, self.echo = 0, 0

    def packet(self, flags: int, payload: bytes = b"") -> bytes:
        said = _OFFER if flags == SYN else Options(stamps=(1000, self.echo))
        made = tcp.emit(
            _ADDRESSES, self.ports, self.seq & _MASK, self.ack if flags & ACK else 0, flags, 500,
            options.emit(said), payload,
        )  # fmt: skip
        self.seq += len(payload) + bool(flags & (SYN | FIN))
        return ipv4.emit(_ADDRESSES, ipv4.TCP, made)

    def hears(self, segment: Segment) -> str | None:
        """The segment in words that can be compared; None for an ACK that only has news."""
        found = options.parse(segment.options)
        if found.stamps is not None:
            self.echo = found.stamps[0]
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
            return None
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
        elif verb == "skip":
            clients[words[0]].seq += int(words[1])
        elif verb in SEGMENTS:
            if words[0] not in clients:
                clients[words[0]] = _Client(next(ports))
            payload = words[1].encode() if len(words) > 1 else b""
            side.packet(clients[words[0]].packet(SEGMENTS[verb], payload))
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
