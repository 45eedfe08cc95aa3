"""Malformed packets into the model: never an exception, never a structure without a bound.

A run has a seed, which is all its chance: settings, listeners, flows, some thousand packets
(``bench.malformed``), calls and waits between them.  A run that finds something prints its seed:
``python -m bench fuzz packets=1 --first SEED`` is the same run again.
"""

from __future__ import annotations

import ipaddress
import random
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import count, islice

from bench.fuzz.found import Found
from bench.malformed import Flow, packet, well_formed
from segue.address import Address
from segue.errors import KernelError
from segue.model.connection import MOST_EARLY, Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.profile import LINUX, SERIES
from segue.model.program import Program, Question, SkAction
from segue.model.request import Request
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.tcp import FIN, SYN

COUNT = 100_000
PACKETS = 2000  # in a run
SERVER, SERVER6 = "10.77.0.2", "fd77::2"
PORT = 80
_CALLS = 0.05  # of the steps
_WAITS = 0.03
_LOOK_EACH = 100  # packets, after which everything is looked at
_BACKLOGS = (0, 1, 8, 64)
_MOST_HELD = 50  # connections of the program
_OVER = 100_000.0  # seconds, in which everything must have ended


class Broken(AssertionError):
    """An invariant does not hold."""


def holds(what: str, found: int, most: int) -> None:
    """Raises Broken when there is more than there may be."""
    if found > most:
        raise Broken(f"{what}: {found}, and at most {most} may be")


class Run:
    """One seed: a host, its listeners, and those who send to it."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)
        self.host = Host(
            SERVER, SERVER6, secret=b"0123456789abcdef",
            profile=chance.choice((LINUX, LINUX, SERIES)),
        )  # fmt: skip
        self.now = 1000.0
        self.packets = 0
        settings = self.host.sysctls
        self._flip(times=8)
        settings.tcp_max_tw_buckets = chance.choice((0, 1, 50))
        settings.tcp_max_orphans = chance.choice((0, 3, 50))
        self.made: list[Listener] = []
        self.live = {SERVER: self._listener(SERVER), SERVER6: self._listener(SERVER6)}
        self.held: list[Connection] = []
        self._wild = chance.choice((0.1, 0.4, 1.0))
        self.flows = [self._flow(number) for number in range(chance.choice((1, 3, 30, 500)))]
        self._by_port = {flow.ports[:2] + flow.addresses[:4]: flow for flow in self.flows}
        self._peak = 0

    def _flow(self, number: int) -> Flow:
        server, client = (SERVER6, "fd77::1") if number % 3 == 2 else (SERVER, "10.77.0.1")
        pair = b"".join(ipaddress.ip_address(one).packed for one in (client, server))
        ports = (20_000 + number).to_bytes(2, "big") + PORT.to_bytes(2, "big")
        return Flow(pair, ports, wild=self._wild)

    def _listener(self, host: str) -> Listener:
        chance = self.chance
        made = self.host.socket()
        for name, values in (
            ("SO_REUSEPORT", (1,)), ("TCP_NODELAY", (0, 1)), ("TCP_SAVE_SYN", (0, 1)),
            ("TCP_DEFER_ACCEPT", (0, 0, 3)), ("TCP_FASTOPEN", (0, 2, 20)),
            ("TCP_FASTOPEN_NO_COOKIE", (0, 1)), ("TCP_MAXSEG", (0, 0, 100)),
        ):  # fmt: skip
            self.host.setsockopt(made, name, chance.choice(values))
        self.host.bind(made, Address(host, PORT))
        self.host.listen(made, chance.choice(_BACKLOGS))
        if chance.random() < 0.2:
            self.host.attach(made, Program(self._decide, migrates=chance.random() < 0.7))
        self.made.append(made)
        return made

    def _decide(self, _: Question) -> int | SkAction:
        """A policy without sense, as far as any there can be."""
        return self.chance.choice(
            (SkAction.PASS, SkAction.DROP, self.chance.choice(self.made).cookie, 12345)
        )

    def _flip(self, times: int = 1) -> None:
        """Any setting, to any value that makes a difference."""
        settings, chance = self.host.sysctls, self.chance
        for _ in range(times):
            match chance.randrange(8):
                case 0:
                    settings.tcp_migrate_req = chance.randrange(2)
                case 1:
                    settings.tcp_syncookies = chance.randrange(3)
                case 2:
                    settings.tcp_fastopen = chance.choice((0, 2, 0x202, 0x402, 0x602))
                case 3:
                    settings.tcp_abort_on_overflow = chance.randrange(2)
                case 4:
                    settings.tcp_timestamps = chance.randrange(2)
                case 5:
                    settings.tcp_sack = chance.randrange(2)
                case 6:
                    settings.tcp_window_scaling = chance.randrange(2)
                case _:
                    settings.tcp_fin_timeout = chance.choice((1, 60))

    def go(self, most: int = PACKETS) -> int:
        """The whole run; how many packets there were.  Raises what the model does, and Broken."""
        chance = self.chance
        seen: list[bytes] = []
        while self.packets < most:
            step = chance.random()
            if step < _CALLS:
                self._call()
            elif step < _CALLS + _WAITS:
                self._wait(chance.choice((0.001, 0.05, 0.3, 1.1, 7, 70)))
            else:
                again = seen and chance.random() < 0.05
                made = chance.choice(seen) if again else packet(chance, chance.choice(self.flows))
                if len(seen) < 200:
                    seen.append(made)
                self.host.receive(self.now, made)
                self.packets += 1
                if not self.packets % _LOOK_EACH:
                    self._look()
            self._learn()
        self._look()
        self._end()
        return self.packets

    def _call(self) -> None:
        chance, host = self.chance, self.host
        which = chance.randrange(10)
        side = chance.choice((SERVER, SERVER, SERVER6))
        with suppress(KernelError):
            if which < 2:
                for _ in range(chance.choice((1, 30))):
                    if len(self.held) < _MOST_HELD:
                        self.held.append(host.accept(self.live[side]))
            elif which == 2:
                self._flip()
            elif which == 3:
                self._restart(side)
            elif which == 4:
                old = chance.choice(self.made)
                host.shutdown(self.now, old)
                host.listen(old, chance.choice(_BACKLOGS))
            elif self.held:
                self._use(chance.randrange(len(self.held)))

    def _restart(self, side: str) -> None:
        old, self.live[side] = self.live[side], self._listener(side)
        self.host.close(self.now, old)

    def _use(self, at: int) -> None:
        """One call on one connection."""
        chance, host, one = self.chance, self.host, self.held[at]
        match chance.randrange(7):
            case 0 | 1:
                host.read(self.now, one, chance.choice((1, 1000, 65536)))
            case 2 | 3:
                host.write(self.now, one, b"y" * chance.choice((1, 1448, 50_000)))
            case 4:
                host.shutdown(
                    self.now, one, receive=chance.random() < 0.3, send=chance.random() < 0.7
                )
            case _:
                host.close(self.now, self.held.pop(at))

    def _wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.host.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.host.advance(self.now)
            self._learn()
        self.now = until

    def _learn(self) -> None:
        """What came back is whole, and tells its flow where it stands."""
        self.host.events()
        for made in self.host.take():
            if not well_formed(made):
                raise Broken(f"the model sent {made.hex()}")
            carrier = ipv6.Packet(made) if made[0] >> 4 == 6 else ipv4.Packet(made)
            segment = tcp.Segment(carrier.payload)
            flow = self._by_port.get(bytes(carrier.payload[2:4]) + carrier.target_bytes[:4])
            if flow is not None and self.chance.random() < 0.7:
                taken = len(segment.payload) + bool(segment.flags & (SYN | FIN))
                said = options.parse(segment.options)
                flow.learn(segment.flags, segment.seq, taken, segment.ack, said)

    def _look(self) -> None:
        """Every structure is within its bound."""
        net, settings = self.host._net, self.host.sysctls  # noqa: SLF001 - what is inside is the question
        # A backlog of N holds N + 1 requests, and N + 1 children.  What migrates does not look at
        # the target's backlog (FACTS, backlog), so the sum over all listeners is what is bounded.
        room = len(self.made) * (max(_BACKLOGS) + 1)
        half_open = sum(isinstance(one, Request) for one in net.flows.values())
        queued = sum(len(one.queue) for one in self.made)
        slots = sum(max(one.fast_open.limit, 0) for one in self.made)
        holds("half-open requests", half_open, room)
        holds("children in accept queues", queued, room)
        holds("connections in TIME_WAIT", net.time_waits, settings.tcp_max_tw_buckets)
        holds("orphans", net.orphans, settings.tcp_max_orphans)
        most = half_open + queued + len(self.held) + net.time_waits + net.orphans
        holds("flows", len(net.flows), most)
        self._peak = max(self._peak, len(net.flows))
        holds("timers", len(net.timers), 2 * self._peak + 65)
        penalties = sum(len(one.fast_open.penalties) for one in self.made)
        # In the Linux profile a migrated child leaves a slot more than the limit.
        holds("penalties of Fast Open", penalties, 2 * slots)
        for group in net.groups.values():
            holds("closed listeners in a group", len(group.closed), half_open + queued + slots)
        for one in (*net.flows.values(), *self.held):
            if isinstance(one, Connection):
                _look_at(one, settings.tcp_wmem_max)

    def _end(self) -> None:
        """All is closed, and time passes: nothing is left, and nothing refers to anything."""
        for one in self.held:
            self.host.close(self.now, one)
        for listener in self.made:
            self.host.close(self.now, listener)
        self._learn()
        self._wait(_OVER)
        net = self.host._net  # noqa: SLF001
        holds("flows after the end", len(net.flows), 0)
        holds("timers after the end", int(self.host.deadline() is not None), 0)
        holds("groups after the end", len(net.groups), 0)
        for what, number in (("TIME_WAIT", net.time_waits), ("orphans", net.orphans)):
            if number:
                raise Broken(f"{what} counted after the end: {number}")
        # Over all listeners, since in the Linux profile one may have the other's request less.
        for what in ("requests", "young"):
            if left := sum(getattr(one, what) for one in self.made):
                raise Broken(f"{what} after the end: {left}")
        for listener in self.made:
            if listener.references or listener.queue:
                raise Broken(
                    f"references, queue after the end: {listener.references}, {len(listener.queue)}"
                )


def _look_at(one: Connection, wmem: int) -> None:
    # What is read at once may be of any size: a packet is 65,535 bytes at most.
    early = sum(len(data) for _, data in one.early)
    buffer = one.buffer
    limit = 0 if buffer is None else buffer.limit
    holds("bytes that arrived", len(one.incoming) + early, max(limit, 65_535))
    if buffer is not None and not one.incoming:
        holds("memory of what was read", buffer.memory, 0)
    holds("pieces that came early", len(one.early), MOST_EARLY)
    holds("bytes to send", len(one.outgoing), wmem)


def run(seed: int, most: int = PACKETS) -> tuple[int, str]:
    """How many packets, and what went wrong, if anything did."""
    one = Run(seed)
    try:
        one.go(most)
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        return one.packets, f"seed {seed}, packet {one.packets}\n{traceback.format_exc(limit=-4)}"
    return one.packets, ""


def _all(first: int, runs: int, jobs: int) -> Iterator[tuple[int, str]]:
    seeds = islice(count(first), runs)
    if jobs == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, seeds, chunksize=8)


def fuzz(packets: int, first: int, jobs: int = 1) -> Found:
    """So many packets, in runs of one seed each from the first on."""
    found = Found()
    for done, wrong in _all(first, -(-packets // PACKETS), jobs):
        found.counts["packets"] += done
        if wrong:
            found.finding(wrong)
    return found
