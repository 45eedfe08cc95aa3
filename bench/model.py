"""Handshakes through restarts in the model, on a clock of its own: speed and memory, on one core.

python bench/model.py [HANDSHAKES]
"""

from __future__ import annotations

import ipaddress
import resource
import sys
import time

from segue.address import Address
from segue.model.connection import Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.wire import ipv4, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, RST, SYN

SERVER, PORT = "10.77.0.2", 80
TARGET = ipaddress.ip_address(SERVER).packed
IN_FLIGHT = 1000  # handshakes between their SYN and their final ACK, each time a listener closes
OFFER = options.emit(Options(1460, 7, sack_permitted=True, stamps=(1, 0)))


def client(number: int, seq: int, ack: int, flags: int, said: bytes = b"") -> bytes:
    """A packet of the client of this number."""
    addresses = (0x0A000000 + number // 50_000).to_bytes(4, "big") + TARGET
    ports = (10_000 + number % 50_000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    return ipv4.emit(addresses, ipv4.TCP, tcp.emit(addresses, ports, seq, ack, flags, 500, said))


def listener(host: Host) -> Listener:
    """One more of the group."""
    made = host.socket()
    host.setsockopt(made, "SO_REUSEPORT", 1)
    host.bind(made, Address(SERVER, PORT))
    host.listen(made, 4096)
    return made


def memory_kb() -> int:
    """The most that this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Handshake, migrate, accept and reset so many; then hold so many half-open."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    host = Host(SERVER, secret=b"a benchmark only")
    host.sysctls.tcp_migrate_req = 1
    now, spent, accepted = 0.0, 0.0, 0
    old = listener(host)
    for first in range(0, wanted, IN_FLIGHT):
        numbers = range(first, min(first + IN_FLIGHT, wanted))
        syns = [client(one, 1000, 0, SYN, OFFER) for one in numbers]
        began = time.perf_counter()
        for packet in syns:
            now += 0.00001
            host.receive(now, packet)
        answers = host.take()
        spent += time.perf_counter() - began
        isns = [int.from_bytes(packet[24:28], "big") + 1 & 0xFFFFFFFF for packet in answers]
        acks = [client(one, 1001, isn, ACK) for one, isn in zip(numbers, isns, strict=True)]
        resets = [client(one, 1001, 0, RST) for one in numbers]
        began = time.perf_counter()
        new = listener(host)
        host.close(now, old)
        for packet in acks:
            now += 0.00001
            host.receive(now, packet)
        held: list[Connection] = [host.accept(new) for _ in numbers]
        host.advance(now)
        host.events()
        spent += time.perf_counter() - began
        old = new
        accepted += len(held)
        for packet in resets:
            host.receive(now, packet)
        host.events()
    moved = host.counts["TCPMigrateReqSuccess"]
    print(f"{accepted} handshakes, {moved} of them migrated, {accepted / spent:,.0f} a second")
    print(f"{memory_kb()} KB resident at most")
    many = 100_000
    host.listen(old, 1 << 20)
    host.sysctls.somaxconn = host.sysctls.tcp_max_syn_backlog = 1 << 20
    host.listen(old, 1 << 20)
    before = memory_kb()
    for number in range(many):
        host.receive(now, client(wanted + number, 1000, 0, SYN, OFFER))
        host.take()
    print(f"{(memory_kb() - before) * 1024 / host.half_open():,.0f} bytes a half-open request")


if __name__ == "__main__":
    main()
