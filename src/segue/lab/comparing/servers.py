"""The servers of a comparison on Linux: python -m segue.lab.comparing.servers SETTINGS WAY.

One process has both generations, so that what is compared is what becomes of connections and not
how long a server takes to start.  It says that it listens, waits for the instant at which the
clients begin, and says what it has seen when standard input ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Wish
from segue.engine.drain import Drain
from segue.engine.loaded import load
from segue.engine.migrate import Migrate
from segue.engine.steering import Steering as Engine
from segue.engine.steering import counted_of
from segue.errors import KernelError, NotSupported
from segue.lab.comparing import lines
from segue.lab.comparing.handoff import Handoff
from segue.lab.comparing.reading import received
from segue.lab.comparing.service import Service
from segue.lab.comparing.settings import PORT, Settings
from segue.lab.scenario import SERVER
from segue.lab.ways.known import WAYS
from segue.lab.ways.leaving import Steering, Way
from segue.linux import realtime, tcp_queue
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import open_listener

_SERVER = Address(SERVER, PORT)
_ANSWER = b"!\n"
_SETTLE_S = 0.01


class Servers:
    """Linux as ``segue.lab.comparing.service.System``."""

    def __init__(self, settings: Settings, way: Way | None, stack: ExitStack) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._stack = stack
        self._backlog = settings.backlog
        self._diag = stack.enter_context(SockDiag())
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[int, socket.socket] = {}
        steering = way.steering if way is not None else Steering.HASH
        self._engine = _engine(steering)
        if self._engine is not None:
            stack.callback(self._engine.close)
        carries = way is not None and way.carries
        self._carrier = stack.enter_context(Carrier()) if carries else None
        self.service = Service(settings, way)
        self._handoff = stack.enter_context(Handoff(self._loop, self._adopt))

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """As in System."""
        self._loop.call_later(seconds, do)

    def listen(self) -> int:
        """As in System."""
        number = len(self._listeners)
        made = self._stack.enter_context(open_listener(_SERVER, backlog=self._backlog))
        made.setblocking(False)
        self._listeners[number] = made
        if self._carrier is not None:
            self._carrier.watch(made)
        if self._engine is not None:
            self._engine.join(number, made)
        return number

    def steer(self, listeners: Collection[int]) -> None:
        """As in System."""
        if self._engine is not None:
            self._engine.share(dict.fromkeys(listeners, 1.0))

    def watch(self, listener: int, ready: Callable[[], None] | None) -> None:
        """As in System."""
        there = self._listeners[listener]
        if ready is None:
            self._loop.remove_reader(there)
        else:
            self._loop.add_reader(there, ready)

    def accept(self, listener: int) -> int | None:
        """As in System."""
        try:
            made, peer = self._listeners[listener].accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        port: int = peer[1]
        self._has(port, made)
        return port

    def _has(self, port: int, made: socket.socket) -> None:
        made.setblocking(False)
        self._connections[port] = made
        self._loop.add_reader(made, self._read, port, made)

    def _adopt(self, port: int, made: socket.socket) -> None:
        self._has(port, made)
        self.service.adopted(port)

    def _read(self, port: int, made: socket.socket) -> None:
        data = received(made)
        if data is None:
            return
        if not data:
            self.service.ended(port)
            self.end(port)
            return
        for _ in range(data.count(b"\n")):
            self.service.asked(port)

    def answer(self, connection: int) -> bool:
        """As in System."""
        with suppress(OSError):
            self._connections[connection].send(_ANSWER)
            return True
        return False

    def end(self, connection: int) -> None:
        """As in System."""
        there = self._connections.pop(connection, None)
        if there is not None:
            self._loop.remove_reader(there)
            there.close()

    def pass_on(self, connection: int) -> None:
        """As in System."""
        there = self._connections.pop(connection)
        self._loop.remove_reader(there)
        self._handoff.give(connection, there)

    def carry(self, connections: Collection[int], listeners: Collection[int]) -> set[int]:
        """As in System.  What no listener has taken yet is nobody's, and is asked for again."""
        assert self._carrier is not None
        wishes = {Wish(self._connections[one]): one for one in connections}
        targets = [self._listeners[one] for one in listeners]
        gone = set()
        for report in self._carrier.batch(list(wishes), targets, ()):
            if report.carried or report.pending:
                gone.add(wishes[report.wish])
        for one in gone:
            self.end(one)
        self._settle()
        return gone

    def _settle(self) -> None:
        assert self._carrier is not None
        if self._carrier.due is not None:
            self._carrier.settle()
            self.later(_SETTLE_S, self._settle)

    def half_open(self) -> frozenset[int]:
        """As in System."""
        found = self._diag.half_open(PORT, socket.AF_INET)
        return frozenset(one.peer_port for one in found)

    def queued(self, listener: int) -> int:
        """As in System."""
        return tcp_queue.accepting(self._listeners[listener])[0]

    def selected(self, listener: int) -> int:
        """As in System."""
        return counted_of(self._engine, listener).new if self._engine is not None else 0

    def set_backlog(self, listener: int, backlog: int) -> None:
        """As in System."""
        self._listeners[listener].listen(backlog)

    def close(self, listener: int) -> None:
        """As in System."""
        there = self._listeners[listener]
        if self._engine is None:
            there.close()
        else:
            self._engine.leave(listener, there)


def _engine(steering: Steering) -> Engine | None:
    match steering:
        case Steering.HASH:
            return None
        case Steering.CLASSIC:
            return Drain()
        case Steering.COUNTING:
            return Migrate(load(migrates=False))
        case Steering.MIGRATING:
            return Migrate()


async def _serve(settings: Settings, way: Way | None) -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    with ExitStack() as stack:
        try:
            servers = Servers(settings, way, stack)
            servers.service.begin(servers)
        except (KernelError, NotSupported) as error:
            lines.say(str(error))
            return
        with realtime.urgent():
            begins = lines.ready()
            loop.call_at(begins + settings.restart_s, servers.service.restart)
            loop.add_reader(sys.stdin, over.set_result, None)
            await over
        loop.remove_reader(sys.stdin)
        servers.service.stop()
        lines.say_served(servers.service.served())


def main() -> None:
    """Until standard input ends."""
    settings, way = lines.settings(sys.argv[1]), WAYS.get(sys.argv[2])
    asyncio.run(_serve(settings, way))


if __name__ == "__main__":
    main()
