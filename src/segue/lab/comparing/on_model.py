"""A comparison on the model: both sides, and the link between them, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from segue.address import Address
from segue.engine.carry_wish import CARRIED
from segue.errors import KernelError
from segue.lab.carrying import carry
from segue.lab.comparing.chances import chances
from segue.lab.comparing.clients import Clients
from segue.lab.comparing.ledger import Outcome, outcome
from segue.lab.comparing.service import Service
from segue.lab.comparing.settings import PORT, Settings
from segue.lab.scenario import CLIENT, SERVER
from segue.lab.ways.leaving import Steering, Way
from segue.model.client import Client
from segue.model.connection import Connection
from segue.model.events import Acceptable, Readable
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.program import Program, Question, SkAction
from segue.model.states import State
from segue.wire import tcp
from segue.wire.tcp import FIN, RST, SYN

_SERVER = Address(SERVER, PORT)
_REQUEST, _ANSWER = b"?\n", b"!\n"
_SYN_AGAIN_S = 1.0  # TCP_TIMEOUT_INIT
_LEAST_RTO_S = 0.2  # TCP_RTO_MIN, of the part beyond the round trip
_TRIES = 4


class Clock:
    """Virtual time: what is due is done in its turn, and nothing takes any time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call it in so many seconds; what is due at the same time, in the order of the calls."""
        heappush(self._due, (self._now + seconds, next(self._serial), do))

    def run(self, over: Callable[[], bool]) -> None:
        """Until it is over, or nothing is due any more."""
        while self._due and not over():
            self._now, _, do = heappop(self._due)
            do()


class Servers:
    """The model as ``segue.lab.comparing.service.System``."""

    def __init__(self, settings: Settings, way: Way | None, clock: Clock) -> None:
        self.service = Service(settings, way)
        self.now, self._clock = clock.now, clock
        self._backlog = settings.backlog
        self._steering = way.steering if way is not None else Steering.HASH
        self._host = Host(SERVER, secret=settings.seed.to_bytes(16, "big"))
        for name, value in way.sysctls.items() if way is not None else ():
            setattr(self._host.sysctls, name.rpartition(".")[2], int(value))
        self._listeners: dict[int, Listener] = {}
        self._ready: dict[int, Callable[[], None] | None] = {}
        self._connections: dict[int, Connection] = {}  # by the client's port
        self._ports: dict[int, int] = {}  # by cookie
        self._eligible: list[int] = []
        self._selected: Counter[int] = Counter()
        self._alarm: float | None = None
        self.sends: Callable[[bytes], None] = lambda _: None

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """As in System."""

        def then() -> None:
            do()
            self.settle()

        self._clock.later(seconds, then)

    def receive(self, packet: bytes) -> None:
        """One arrives."""
        self._host.receive(self.now(), packet)
        self.settle()

    def settle(self) -> None:
        """After anything that was done: programs are woken, packets go out, timers are set."""
        while events := self._host.events():
            for event in events:
                if isinstance(event, Acceptable):
                    self._wake(event.listener)
                elif isinstance(event, Readable) and event.connection in self._ports:
                    self._read(self._ports[event.connection])
        for packet in self._host.take():
            self.sends(packet)
        due = self._host.deadline()
        if due is not None and due != self._alarm:
            self._alarm = due
            self._clock.later(max(0.0, due - self.now()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._host.advance(self.now())
        self.settle()

    def _wake(self, listener: int) -> None:
        ready = self._ready.get(listener)
        if ready is not None and self._listeners[listener].queue:
            ready()

    def _read(self, port: int) -> None:
        connection = self._connections[port]
        try:
            data = self._host.read(self.now(), connection)
        except KernelError as error:
            if error.name == "EAGAIN":
                return
            data = b""
        if data:
            for _ in range(data.count(_REQUEST)):
                self.service.asked(port)
        else:
            self.service.ended(port)
            self.end(port)

    # As in System.

    def listen(self) -> int:
        """As in System."""
        made = self._host.socket()
        self._host.setsockopt(made, "SO_REUSEPORT", 1)
        self._host.setsockopt(made, "TCP_NODELAY", 1)
        self._host.bind(made, _SERVER)
        self._host.listen(made, self._backlog)
        self._listeners[made.cookie] = made
        return made.cookie

    def steer(self, listeners: Collection[int]) -> None:
        """As in System."""
        if self._steering is Steering.HASH:
            return
        self._eligible = list(listeners)
        migrates = self._steering is Steering.MIGRATING
        any_one = next(iter(self._listeners.values()))
        self._host.attach(any_one, Program(self._decide, migrates))

    def _decide(self, question: Question) -> int | SkAction:
        chosen = self._eligible[question.hash * len(self._eligible) >> 32]
        if question.migrating is None and question.flags & SYN:
            self._selected[chosen] += 1
        return chosen

    def watch(self, listener: int, ready: Callable[[], None] | None) -> None:
        """As in System."""
        self._ready[listener] = ready
        if ready is not None:
            self.later(0.0, lambda: self._wake(listener))

    def accept(self, listener: int) -> int | None:
        """As in System."""
        with suppress(KernelError):
            made = self._host.accept(self._listeners[listener])
            port = made.path.remote[1]
            self._connections[port], self._ports[made.cookie] = made, port
            self.later(0.0, lambda: self._look(port))
            return port
        return None

    def _look(self, port: int) -> None:
        if port in self._connections:
            self._read(port)

    def answer(self, connection: int) -> bool:
        """As in System."""
        with suppress(KernelError):
            self._host.write(self.now(), self._connections[connection], _ANSWER)
            return True
        return False

    def end(self, connection: int) -> None:
        """As in System."""
        there = self._connections.pop(connection, None)
        if there is not None:
            del self._ports[there.cookie]
            self._host.close(self.now(), there)

    def pass_on(self, connection: int) -> None:
        """As in System: the model has no processes, so it changes hands by a word."""
        self.service.adopted(connection)

    def carry(self, connections: Collection[int], listeners: Collection[int]) -> set[int]:
        """As in System."""
        targets = [self._listeners[one] for one in listeners]
        gone = set()
        for port in connections:
            there = self._connections[port]
            if carry(self._host, self.now(), there, targets).startswith(CARRIED):
                self.end(port)
                gone.add(port)
        return gone

    def half_open(self) -> frozenset[int]:
        """As in System."""
        return frozenset(
            one.remote_port for one in self._host.flow_pictures() if one.state is State.NEW_SYN_RECV
        )

    def queued(self, listener: int) -> int:
        """As in System."""
        return len(self._listeners[listener].queue)

    def selected(self, listener: int) -> int:
        """As in System."""
        return self._selected[listener]

    def set_backlog(self, listener: int, backlog: int) -> None:
        """As in System."""
        self._host.listen(self._listeners[listener], backlog)

    def close(self, listener: int) -> None:
        """As in System."""
        self._host.close(self.now(), self._listeners[listener])


@dataclass(slots=True)
class _Line:
    """A client's connection: what it says again until it is heard."""

    client: Client
    said: int = 1  # numbers, of which the SYN has one
    heard: int = 0  # of them
    connected: bool = False


class Wire:
    """The model's clients as ``segue.lab.comparing.clients.Network``, and the link to the servers.

    A client repeats its SYN and its request as Linux does; more is not asked of one here.
    """

    def __init__(self, settings: Settings, servers: Servers, clock: Clock) -> None:
        self.now, self.later = clock.now, clock.later
        self._delay = settings.rtt_s / 2
        # After one sample of the round trip (tcp_rtt_estimator).
        self._rto = settings.rtt_s + max(2 * settings.rtt_s, _LEAST_RTO_S)
        self._lines: dict[int, _Line] = {}
        self._servers = servers
        servers.sends = lambda packet: self.later(self._delay, lambda: self._hears(packet))
        self.over = False
        self.clients = Clients(settings, self, chances(settings.seed), self._end)

    def dial(self, port: int) -> None:
        """As in Network."""
        line = self._lines[port] = _Line(Client(Address(CLIENT, port), _SERVER))
        self._say(line, line.client.syn(), _SYN_AGAIN_S)

    def ask(self, port: int) -> None:
        """As in Network."""
        line = self._lines[port]
        line.said += len(_REQUEST)
        self._say(line, line.client.data(_REQUEST), self._rto)

    def hang_up(self, port: int) -> None:
        """As in Network."""
        line = self._lines.pop(port)
        if line.connected:
            self._send(line.client.fin())

    def _say(self, line: _Line, packet: bytes, again_s: float, tries: int = _TRIES) -> None:
        """Again and again, each time after twice as long, until it is acknowledged."""
        said = line.said
        self._send(packet)

        def repeat() -> None:
            if line.heard < said and self._lines.get(_port(packet)) is line:
                self._say(line, packet, 2 * again_s, tries - 1)

        if tries:
            self.later(again_s, repeat)

    def _send(self, packet: bytes) -> None:
        self.later(self._delay, lambda: self._servers.receive(packet))

    def _hears(self, packet: bytes) -> None:
        segment = tcp.segment_in(packet)
        line = self._lines.get(segment.dport) if segment is not None else None
        heard = line.client.hears(packet) if line is not None else None
        if segment is None or line is None or heard is None:
            return
        port = segment.dport
        if heard.flags & RST:
            line.connected = False
            self.clients.broken(port)
            return
        line.heard = max(line.heard, heard.ack or 0)
        if heard.flags & SYN:
            self._send(line.client.ack())
            if not line.connected:
                line.connected = True
                self.clients.connected(port)
        elif heard.payload or heard.flags & FIN:
            self._send(line.client.ack())
            if heard.payload:
                self.clients.heard(port)
            elif port in self._lines:
                self.clients.broken(port)

    def _end(self) -> None:
        self.over = True


def _port(packet: bytes) -> int:
    segment = tcp.segment_in(packet)
    return segment.sport if segment is not None else 0


def predict(settings: Settings, way: Way | None) -> Outcome:
    """What one restart costs on the model; the same for the same settings."""
    clock = Clock()
    servers = Servers(settings, way, clock)
    wire = Wire(settings, servers, clock)
    servers.service.begin(servers)
    servers.settle()
    wire.clients.begin()

    servers.later(settings.restart_s, servers.service.restart)
    clock.run(lambda: wire.over)
    return outcome(settings, wire.clients.ends, servers.service.served())
