"""The two sides that replay a story: Linux behind a TUN interface, and the model."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.defects import KernelRelease
from segue.engine.loaded import Loaded
from segue.lab.carrying import carry
from segue.lab.policies import named
from segue.lab.policy_program import PolicyProgram
from segue.lab.stage import CLIENTS, SERVERS, WRITE_MEMORY, Programs, Stage
from segue.linux import snmp
from segue.linux.bpf import attach_reuseport
from segue.linux.sockopt import cookie, is_listening
from segue.model.connection import Connection
from segue.model.events import Acceptable, Event
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.picture import FlowPicture, ListenerPicture
from segue.model.profile import LINUX, LINUX_7_3, Profile
from segue.model.program import Program
from segue.model.states import State
from segue.model.timing import EXACT, Timing
from segue.policy.builtin import encode_number, encode_socket

PORT = 80
BEGINNING = 1000.0  # what the model's clock says then, in seconds, unless it is told
STEP_S = 0.02  # the time that a step takes in the model, unless it is told how long Linux took
QUIET_S = 0.012
COUNTED = (
    "TCPMigrateReqSuccess", "TCPMigrateReqFailure", "ListenOverflows", "ListenDrops",
    "EmbryonicRsts", "SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "TCPReqQFullDoCookies",
    "TCPReqQFullDrop", "TCPDeferAcceptDrop", "TCPFastOpenCookieReqd", "TCPFastOpenPassive",
    "TCPFastOpenPassiveFail", "TCPFastOpenListenOverflow", "TCPAbortOnClose", "TCPAbortOnData",
    "TCPTimeouts", "TCPLossProbes", "TCPSynRetrans", "TCPChallengeACK",
)  # fmt: skip


# Linux starts its clock at -300 s.  Until two minutes after 0 a listener that never overflowed
# looks as if it had, and a stray ACK is checked for a cookie (FACTS, boot).  A story takes up to
# half a minute.
_CLOCK_ZERO_S, _OVERFLOW_S, _STORY_S = 300.0, 121.0, 30.0


def unlike_until(uptime: float) -> float:
    """Seconds until Linux counts again as the model does; mostly 0.  ``uptime`` is in seconds."""
    left = _CLOCK_ZERO_S + _OVERFLOW_S - uptime
    return left if 0 < left < _OVERFLOW_S + _STORY_S else 0.0


@dataclass(frozen=True, slots=True)
class Instant:
    """What the model did at one time, and how all stands after it.

    ``listeners`` and ``accepted`` are by their names in the story; ``at`` is in seconds since the
    beginning; ``sent`` is how many packets went out.
    """

    at: float
    sent: int
    events: tuple[Event, ...]
    listeners: dict[str, ListenerPicture]
    flows: tuple[FlowPicture, ...]
    accepted: dict[str, int]
    counts: dict[str, int]


class Side(Protocol):
    """One side that replays a story.  Calls raise OSError.

    ``version`` is that of IP, and ``clients`` has the clients' address in each.
    """

    version: int
    clients: Mapping[int, str]

    def packet(self, packet: bytes) -> None:
        """It arrives."""

    def settle(self, seconds: float) -> list[bytes]:
        """What was sent while so much time passed."""

    def sysctl(self, name: str, value: str) -> None:
        """Set one under net.ipv4."""

    def listen(self, name: str, backlog: int, set_to: dict[str, int]) -> None:
        """Make a listener, if there is none of that name, and let it listen."""

    def shutdown(self, name: str, how: int) -> None:
        """Of a listener, or of one side of a connection."""

    def close(self, name: str) -> None:
        """Of anything."""

    def accept(self, listener: str, name: str) -> None:
        """Without waiting."""

    def read(self, name: str) -> bytes:
        """Without waiting."""

    def write(self, name: str, data: bytes) -> None:
        """All of it."""

    def mtu(self, size: int) -> None:
        """Of the interface."""

    def set_option(self, name: str, option: str, value: int) -> None:
        """Of a listener or a connection."""

    def option(self, name: str, option: str) -> int:
        """The same, read."""

    def info(self, name: str) -> str:
        """The fields of TCP_INFO that can be compared."""

    def program(self, listener: str, policy: str, *, migrates: bool) -> None:
        """Let this policy decide for the group of a listener."""

    def send(self, source: str, target: str) -> None:
        """What leaves the one listener is to go to the other, by the policy ``by_cookie``."""

    def prepare_to_carry(self) -> None:
        """Before the first step of a story that carries.  Raises NotSupported, KernelError."""

    def carry(self, name: str) -> str:
        """A connection to where its group selects; what became of it."""

    def woken(self, listener: str) -> bool:
        """Who waits for its connections has been woken since this was asked last."""

    def counts(self) -> dict[str, int]:
        """Those of COUNTED since the beginning."""


@cache
def linux_here() -> Profile:
    """The profile of the kernel that runs, by its release."""
    kernel = KernelRelease.running()
    return LINUX_7_3 if kernel is not None and kernel.version >= (7, 3) else LINUX


class ModelSide:
    """The model, with a clock that only the story moves.

    ``steps`` are the seconds that its steps take, as Linux took for the same story; what is not
    said is as ``settle`` is told.  ``watch`` is told of each instant at which something can have
    happened: after a step's packet or call, and after each timer of the time that follows.  Timers
    fire by ``timing``, and ``begins`` is what the clock says at first.
    """

    def __init__(
        self,
        profile: Profile = LINUX,
        steps: Iterable[float] = (),
        watch: Callable[[Instant], None] | None = None,
        timing: Timing = EXACT,
        begins: float = BEGINNING,
    ) -> None:
        self._steps = iter(steps)
        self._watch = watch
        self.version = 4
        self.clients: Mapping[int, str] = CLIENTS
        self._host = Host(
            *SERVERS.values(), secret=b"a story's secret", profile=profile, timing=timing
        )
        self._host.sysctls.tcp_wmem_default = WRITE_MEMORY
        self._now = self._began = begins
        self._named: dict[str, Listener | Connection] = {}
        self._slots: dict[str, int] = {}  # a listener's place in a program's table
        self._policy_program: PolicyProgram | None = None
        self._woken: set[int] = set()

    def packet(self, packet: bytes) -> None:
        """It arrives."""
        self._host.receive(self._now, packet)

    def settle(self, seconds: float) -> list[bytes]:
        """Every timer at its instant."""
        until = self._now + next(self._steps, seconds)
        sent = self._taken()
        while (due := self._host.deadline()) is not None and due <= until:
            self._now = max(self._now, due)
            self._host.advance(self._now)
            sent += self._taken()
        self._now = until
        return sent

    def _taken(self) -> list[bytes]:
        """What goes out at this instant."""
        sent, events = self._host.take(), self._gather()
        if self._watch is not None:
            named = self._named.items()
            self._watch(
                Instant(
                    at=self._now - self._began,
                    sent=len(sent),
                    events=tuple(events),
                    listeners={
                        name: self._host.listener_picture(one)
                        for name, one in named
                        if isinstance(one, Listener)
                    },
                    flows=self._host.flow_pictures(),
                    accepted={
                        name: one.cookie for name, one in named if isinstance(one, Connection)
                    },
                    counts=self.counts(),
                )
            )
        return sent

    def _gather(self) -> list[Event]:
        events = self._host.events()
        self._woken |= {one.listener for one in events if isinstance(one, Acceptable)}
        return events

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
            self._host.bind(made, Address(SERVERS[self.version], PORT))
            self._slots[name] = len(self._slots)
        self._host.listen(self._listener(name), backlog)
        self._join(name)

    def _join(self, name: str) -> None:
        if self._policy_program is not None:
            self._policy_program.cookies[self._slots[name]] = self._listener(name).cookie

    def _leave(self, name: str) -> None:
        if self._policy_program is not None and name in self._slots:
            self._policy_program.cookies.pop(self._slots[name], None)

    def shutdown(self, name: str, how: int) -> None:
        """Of a listener, or of one side of a connection."""
        self._leave(name)
        self._host.shutdown(
            self._now, self._named[name],
            receive=how != socket.SHUT_WR, send=how != socket.SHUT_RD,
        )  # fmt: skip

    def close(self, name: str) -> None:
        """Of anything."""
        self._leave(name)
        self._host.close(self._now, self._named[name])

    def accept(self, listener: str, name: str) -> None:
        """Raises OSError."""
        self._named[name] = self._host.accept(self._listener(listener))

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        return self._host.read(self._now, self._connection(name))

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError, when a part of it may have been written."""
        while data:
            data = data[self._host.write(self._now, self._connection(name), data) :]

    def mtu(self, size: int) -> None:
        """Of the way to the clients."""
        self._host.mtu = size

    def set_option(self, name: str, option: str, value: int) -> None:
        """Raises OSError."""
        self._host.setsockopt(self._named[name], option, value, self._now)

    def option(self, name: str, option: str) -> int:
        """Raises OSError."""
        return self._host.getsockopt(self._named[name], option)

    def info(self, name: str) -> str:
        """As the model has them."""
        told = self._host.tcp_info(self._named[name])
        scales = told.snd_wscale | told.rcv_wscale << 4
        return _said(
            told.state, told.retransmits, told.probes, told.backoff,
            told.timestamps | told.sack << 1 | bool(scales) << 2, scales,
            told.snd_mss, told.unacked, told.sacked, told.pmtu, told.advmss,
            told.bytes_acked, told.bytes_received, told.notsent_bytes,
        )  # fmt: skip

    def program(self, listener: str, policy: str, *, migrates: bool) -> None:
        """As plain Python and in the interpreter."""
        self._policy_program = PolicyProgram(named(policy))
        for name in self._slots:
            if self._listener(name).listening:
                self._join(name)
        self._host.attach(
            self._listener(listener), Program(self._policy_program, migrates=migrates)
        )

    def send(self, source: str, target: str) -> None:
        """Into the maps of both."""
        if self._policy_program is None:
            raise KeyError("program")
        key = self._listener(source).cookie
        self._policy_program.put("successors", key, self._slots[target])

    def prepare_to_carry(self) -> None:
        """Nothing is needed."""

    def carry(self, name: str) -> str:
        """By the engine's rule."""
        listeners = [self._listener(one) for one in self._slots]
        live = [one for one in listeners if one.listening]
        return carry(self._host, self._now, self._connection(name), live)

    def woken(self, listener: str) -> bool:
        """An event said so."""
        self._gather()
        number = self._listener(listener).cookie
        found = number in self._woken
        self._woken.discard(number)
        return found

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
    """Linux on a stage, for one story.  The calling thread is there whenever something is done."""

    def __init__(self, stage: Stage) -> None:
        self.version = 4
        self.clients: Mapping[int, str] = stage.clients()
        self._stage = stage
        self._tun = stage.tun
        self._named: dict[str, socket.socket] = {}
        self._slots: dict[str, int] = {}
        self._members: set[str] = set()  # of the program's table
        self._loaded: Loaded | None = None
        self._carrier: Carrier | None = None
        self._undo = ExitStack()
        self._epoll: dict[str, select.epoll] = {}
        self.steps: list[float] = []  # how long each has taken
        self.began = self._settled = time.monotonic()
        self._before = stage.counters.read(COUNTED)

    def packet(self, packet: bytes) -> None:
        """It arrives."""
        self._tun.write(packet)

    def settle(self, seconds: float) -> list[bytes]:
        """Until nothing comes for a moment; a wait is waited."""
        found: list[bytes] = []
        quiet = self.quiet(seconds)
        poll = select.poll()
        poll.register(self._tun, select.POLLIN)
        while poll.poll(max(0.0, quiet - time.monotonic()) * 1000):
            found += self.come()
            quiet = max(quiet, self.quiet())
        self.passed()
        return found

    def quiet(self, seconds: float = 0.0) -> float:
        """When a step that is now told to take so long is over, unless something comes."""
        return time.monotonic() + max(QUIET_S, seconds if seconds > STEP_S else 0.0)

    def come(self) -> list[bytes]:
        """What was sent and waits."""
        found: list[bytes] = []
        while (packet := self._tun.read()) is not None:
            found.append(packet)
        return found

    def passed(self) -> None:
        """A step is over now."""
        before, self._settled = self._settled, time.monotonic()
        self.steps.append(self._settled - before)

    def sysctl(self, name: str, value: str) -> None:
        """Set one."""
        self._stage.sysctl(f"net.ipv4.{name}", value)

    def listen(self, name: str, backlog: int, set_to: dict[str, int]) -> None:
        """Make a listener, if there is none of that name, and let it listen."""
        if name not in self._named:
            made = socket.socket(socket.AF_INET if self.version == 4 else socket.AF_INET6)
            self._named[name] = made
            self._slots[name] = len(self._slots)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for option, value in set_to.items():
                _set(made, option, value)
            made.bind((SERVERS[self.version], PORT))
        self._named[name].listen(backlog)
        self._join(name)
        if name not in self._epoll:
            self._epoll[name] = self._undo.enter_context(select.epoll())
            self._epoll[name].register(self._named[name], select.EPOLLIN | select.EPOLLET)

    def _join(self, name: str) -> None:
        # The kernel takes a listener out of a table when it stops, and refuses one that is in it.
        if self._loaded is not None and name not in self._members:
            key, number = encode_number(self._slots[name]), self._named[name].fileno()
            self._put("sockets", key, encode_socket(number))
            self._members.add(name)

    def shutdown(self, name: str, how: int) -> None:
        """Of a listener, or of one side of a connection."""
        self._members.discard(name)
        self._named[name].shutdown(how)

    def close(self, name: str) -> None:
        """Of anything."""
        self._members.discard(name)
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

    def mtu(self, size: int) -> None:
        """Of the interface."""
        self._stage.mtu(size)

    def set_option(self, name: str, option: str, value: int) -> None:
        """Raises OSError."""
        _set(self._named[name], option, value)

    def option(self, name: str, option: str) -> int:
        """Raises OSError."""
        sock = self._named[name]
        if option != "SO_LINGER":
            return sock.getsockopt(_level(option), getattr(socket, option))
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        on, seconds = (int.from_bytes(told[at : at + 4], sys.byteorder) for at in (0, 4))
        return seconds if on else -1

    def info(self, name: str) -> str:
        """From struct tcp_info (linux/tcp.h)."""
        told = self._named[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        return _said(
            *(told[at] for at in (0, 2, 3, 4)), told[5] & _OPTIONS, told[6],
            *(int.from_bytes(told[at : at + size], sys.byteorder) for at, size in _INFO_FIELDS),
        )  # fmt: skip

    def program(self, listener: str, policy: str, *, migrates: bool) -> None:
        """In the kernel."""
        programs = self._stage.programs
        self._loaded = programs.take(policy, migrates=migrates)
        self._undo.callback(programs.give, policy, self._loaded, migrates=migrates)
        self._members.clear()
        for name in self._slots:
            if self._listens(name):
                self._join(name)
        attach_reuseport(self._named[listener].fileno(), self._loaded.program.fileno())

    def _listens(self, name: str) -> bool:
        sock = self._named[name]
        return sock.fileno() >= 0 and is_listening(sock)

    def send(self, source: str, target: str) -> None:
        """Into its map."""
        if self._loaded is None:
            raise KeyError("program")
        key = cookie(self._named[source]).to_bytes(8, sys.byteorder)
        self._put("successors", key, encode_number(self._slots[target]))

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        assert self._loaded is not None
        into = self._loaded.maps[name]
        into.update(key, value)
        self._undo.callback(into.delete, key)

    def prepare_to_carry(self) -> None:
        """It takes a third of a second, which belongs to no step."""
        self._carrier = self._undo.enter_context(Carrier())
        self.began = self._settled = time.monotonic()

    def carry(self, name: str) -> str:
        """By the engine."""
        assert self._carrier is not None
        live = [self._named[one] for one in self._slots if self._listens(one)]
        return str(self._carrier.carry(self._named[name], live))

    def woken(self, listener: str) -> bool:
        """By epoll, edge-triggered."""
        return any(event & select.EPOLLIN for _, event in self._epoll[listener].poll(0))

    def counts(self) -> dict[str, int]:
        """Those of COUNTED that have changed."""
        return snmp.difference(self._before, self._stage.counters.read(COUNTED))

    def end(self) -> None:
        """Close all that is open."""
        for one in self._named.values():
            one.close()
        self._undo.close()


# Of struct tcp_info: snd_mss, unacked, sacked, pmtu, advmss, bytes_acked, bytes_received and
# notsent_bytes, each as its offset and size; and which of its options are compared.
_INFO_FIELDS = ((16, 4), (24, 4), (28, 4), (60, 4), (84, 4), (120, 8), (128, 8), (144, 4))
_INFO_SIZE = 160
_OPTIONS = 0x7  # timestamps, SACK, window scaling


def _said(state: int, *numbers: int) -> str:
    """TCP_INFO in words; of a listener two numbers mean something."""
    names = (
        "retransmits", "probes", "backoff", "options", "scales", "mss", "unacked", "sacked", "pmtu",
        "advmss", "acked", "received", "notsent",
    )  # fmt: skip
    told = dict(zip(names, numbers, strict=True))
    shown = ("unacked", "sacked") if state == State.LISTEN else names
    return " ".join((State(state).name, *(f"{name} {told[name]}" for name in shown)))


def _level(option: str) -> int:
    return socket.IPPROTO_TCP if option.startswith("TCP_") else socket.SOL_SOCKET


def _set(sock: socket.socket, option: str, value: int) -> None:
    """SO_LINGER's number is its seconds, -1 for off (struct linger)."""
    given: int | bytes = value
    if option == "SO_LINGER":
        words = (int(value >= 0), max(value, 0))
        given = b"".join(one.to_bytes(4, sys.byteorder) for one in words)
    sock.setsockopt(_level(option), getattr(socket, option), given)


@contextmanager
def kernel() -> Iterator[KernelSide]:
    """Linux, in a namespace of its own.  Needs CAP_SYS_ADMIN and /dev/net/tun.

    Waits for as long as ``unlike_until`` says, after which the two can be compared.
    """
    time.sleep(unlike_until(time.monotonic()))
    with Programs() as programs, Stage(programs) as stage, stage.entered():
        side = KernelSide(stage)
        try:
            yield side
        finally:
            side.end()
