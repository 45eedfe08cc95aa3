"""Two servers that are processes, a client, and a carrier between them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_guard import Guard
from segue.engine.carry_wish import Report
from segue.engine.migrate import Migrate
from segue.linux import netns, pidfd, socket_filter, tcp_queue, tcp_repair
from segue.linux.raw_ip import RawIp
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal

PORT = 8080
# Each step by the call that performs it.
STEPS: dict[str, tuple[object, str]] = {
    "hold": (socket_filter, "attach"),
    "look": (tcp_queue, "peek"),
    "guard": (Guard, "take"),
    "repair": (tcp_repair, "enter"),
    "disconnect": (tcp_repair, "disconnect"),
    "inject": (RawIp, "send"),
    "leave": (tcp_repair, "leave"),
    "finish": (tcp_repair, "finish"),
    "let go": (Guard, "let_go"),
}


@contextmanager
def after(step: str, act: Callable[[], None], time: int = 1) -> Iterator[None]:
    """Inside the block something happens right after a step is done, the first time or another."""
    owner, name = STEPS[step]
    function = getattr(owner, name)
    done: list[str] = []

    def wrapped(*given: object) -> object:
        answer = function(*given)
        done.append(step)
        if len(done) == time:
            act()
        return answer

    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, function)
    assert len(done) >= time, f"{step} was not reached"


_SERVER = """
import select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
name = sys.argv[2].encode()
listener.setblocking(False)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
clients = {}
while True:
    for number, _ in epoll.poll():
        if number == listener.fileno():
            try:
                client, peer = listener.accept()
            except BlockingIOError:
                continue
            clients[client.fileno()] = client
            epoll.register(client, select.EPOLLIN)
            print(client.fileno(), peer[1], flush=True)
            continue
        client = clients[number]
        try:
            data = client.recv(1 << 20)
        except OSError as error:
            print("error", error.errno, flush=True)
            data = b""
        if data:
            client.sendall(name + data)
        else:
            epoll.unregister(client)
            clients.pop(number).close()
"""


@dataclass
class Server:
    """A process that answers each piece with its name and the piece."""

    listener: socket.socket  # a duplicate
    process: subprocess.Popen[bytes]

    def accepted(self) -> socket.socket:
        """A duplicate of the connection that it accepts next."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "nothing was accepted"
        line = self.process.stdout.readline().split()
        assert line[0] != b"error", line
        return pidfd.duplicate_socket(self.process.pid, int(line[0]))


@dataclass
class Scene:
    """Servers with their steering; the one with the whole share is ``turn``."""

    servers: list[Server]
    steering: Migrate
    turn: int = 0

    def carry(self, carrier: Carrier, connection: socket.socket) -> tuple[Report, int]:
        """To the other server, which is the only one with a share; how many bytes it took along."""
        old, new = self.servers[self.turn], self.servers[1 - self.turn]
        self.steering.share({1 - self.turn: 1.0})
        report = carry(carrier, connection, new.listener, old.process.pid)
        if report.carried:
            self.turn = 1 - self.turn
        return report, report.unread


def carry(carrier: Carrier, connection: socket.socket, target: socket.socket, owner: int) -> Report:
    """Again while this machine is too busy for it, which is no refusal that lasts."""
    limit = time.monotonic() + PATIENCE
    while True:
        report = carrier.carry(connection, [target], [owner])
        busy = report.refused in {Refusal.OWNER_RUNS, Refusal.LATE}
        if not busy or time.monotonic() > limit:
            return report


@contextmanager
def servers(address: str, names: str = "AB", backlog: int = 50) -> Iterator[Scene]:
    """Servers of one letter each, of which the first has the share."""
    with ExitStack() as stack:
        steering = Migrate()
        stack.callback(steering.close)
        made = []
        for slot, name in enumerate(names):
            listener = open_listener(Address(address, PORT), backlog=backlog, v6only=False)
            stack.callback(listener.close)
            number = listener.fileno()
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(number), name],
                pass_fds=[number],
                stdout=subprocess.PIPE,
                bufsize=0,  # what is read ahead is not seen by select
            )
            stack.callback(_end, process)
            steering.join(slot, listener)
            made.append(Server(listener, process))
        steering.share({0: 1.0})
        yield Scene(made, steering)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def dial(host: str, *options: tuple[int, int, int], peer: int | None = None) -> socket.socket:
    """A client, in another namespace if one is given by its descriptor."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    home = netns.current()
    try:
        if peer is not None:
            netns.enter(peer)
        client = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        client.settimeout(PATIENCE)
        for option in options:
            client.setsockopt(*option)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bare, _, zone = host.partition("%")
        scope = (0, socket.if_nametoindex(zone)) if zone else ()
        client.connect((bare, PORT, *scope))
    finally:
        netns.enter(home)
        os.close(home)
    return client


def ask(client: socket.socket, data: bytes) -> bytes:
    """A request and its whole answer, which is acknowledged when this returns."""
    client.sendall(data)
    answer = b""
    while len(answer) < len(data) + 1:
        piece = client.recv(1 << 20)
        assert piece, "the connection has ended"
        answer += piece
    return answer


def settled(connection: socket.socket) -> None:
    """Wait until the client has acknowledged what was written."""
    wait_until(lambda: not unacknowledged(connection), "all is acknowledged")


def wait_unread(connection: socket.socket, count: int) -> None:
    """Until so many bytes have come that nobody has read."""
    wait_until(lambda: len(tcp_queue.peek(connection, count)) >= count, f"{count} bytes")


def unacknowledged(connection: socket.socket) -> int:
    """Segments that are not acknowledged (tcpi_unacked)."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(data[24:28], "little")


@contextmanager
def other_host(mtu: int = 1500) -> Iterator[int]:
    """A namespace over veth: 10.9.0.1 and fd09::1 are here, 10.9.0.2 and fd09::2 there."""
    home = netns.current()
    with ExitStack() as stack:
        stack.callback(os.close, home)
        with netns.fresh() as there:
            inside = os.dup(there)
        stack.callback(os.close, inside)
        mine, theirs = "s0", "c0"
        ip = ["ip", "link", "add", mine, "mtu", str(mtu), "type", "veth", "peer", "name", theirs]
        subprocess.run([*ip, "mtu", str(mtu), "netns", f"/proc/self/fd/{inside}"],
                       check=True, pass_fds=[inside])  # fmt: skip
        _configure(mine, 1, six=mtu >= 1280)
        netns.enter(inside)
        try:
            _configure(theirs, 2, six=mtu >= 1280)
        finally:
            netns.enter(home)
        yield inside


def _configure(name: str, number: int, *, six: bool) -> None:
    commands = [f"ip addr add 10.9.0.{number}/24 dev {name}", f"ip link set {name} up"]
    if six:
        commands.append(f"ip -6 addr add fd09::{number}/64 dev {name} nodad")
    for command in commands:
        subprocess.run(command.split(), check=True)
