"""Handshakes through restarts in the model, and data, on a clock of its own: one core, no packets
but those in memory.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from bench.case import Case, Sample, Tally
from bench.rounds import told
from bench.table import Column, Row
from segue.address import Address
from segue.errors import KernelError
from segue.model.connection import Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.wire import ipv4, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, PSH, RST, SYN

SERVER, PORT = "10.77.0.2", 80
TARGET = ipaddress.ip_address(SERVER).packed
IN_FLIGHT = 1000  # handshakes between their SYN and their final ACK, each time a listener closes
OFFER = options.emit(Options(1460, 7, sack_permitted=True, stamps=(1, 0)))
STAMPS = options.emit(Options(stamps=(2, 0)))
STEP = 0.00001  # seconds of the clock between two packets
HALF_OPEN, SHAKEN, SENT, TAKEN = (
    "half-open requests",
    "handshakes through restarts",
    "bytes from the model",
    "bytes to the model",
)


def client(
    number: int, seq: int, ack: int, flags: int, said: bytes = b"", payload: bytes = b""
) -> bytes:
    """A packet of the client of this number."""
    addresses = (0x0A000000 + number // 50_000).to_bytes(4, "big") + TARGET
    ports = (10_000 + number % 50_000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    segment = tcp.emit(addresses, ports, seq & 0xFFFFFFFF, ack, flags, 0xFFFF, said, payload)
    return ipv4.emit(addresses, ipv4.TCP, segment)


def fresh() -> Host:
    """Where migration is on."""
    host = Host(SERVER, secret=b"a benchmark only")
    host.sysctls.tcp_migrate_req = 1
    return host


def listener(host: Host, backlog: int = 4096) -> Listener:
    """One more of the group."""
    made = host.socket()
    host.setsockopt(made, "SO_REUSEPORT", 1)
    host.bind(made, Address(SERVER, PORT))
    host.listen(made, backlog)
    return made


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(
    *, repetitions: int = 3, handshakes: int = 200_000, half_open: int = 100_000,
    megabytes: int = 100,
) -> list[Row]:  # fmt: skip
    """Memory first and once, as long as nothing was freed that could be used again."""
    tally = Tally()
    tally.add(HALF_OPEN, _half_open(half_open))
    runs: dict[str, Callable[[], Sample]] = {
        SHAKEN: lambda: _handshakes(handshakes),
        SENT: lambda: _sent(megabytes * 1_000_000),
        TAKEN: lambda: _taken(megabytes * 1_000_000),
    }
    for name, run in runs.items():
        for _ in range(repetitions):
            sample = run()
            told(name, sample)
            tally.add(name, sample)
    return tally.rows()


def _half_open(many: int) -> Sample:
    """So many clients that never send their final ACK."""
    host = fresh()
    host.sysctls.somaxconn = host.sysctls.tcp_max_syn_backlog = 2 * many
    listener(host, 2 * many)
    before, begun = resident(), time.process_time()
    for number in range(many):
        host.receive(0.0, client(number, 1000, 0, SYN, OFFER))
        host.take()
    took = time.process_time() - begun
    return Sample({"rate": many / took, "each": (resident() - before) / host.half_open()}, {})


def _handshakes(wanted: int) -> Sample:
    """A thousand SYNs, a restart, a thousand final ACKs, which all migrate; and again."""
    host, now, spent, accepted = fresh(), 0.0, 0.0, 0
    old = listener(host)
    for first in range(0, wanted, IN_FLIGHT):
        numbers = range(first, min(first + IN_FLIGHT, wanted))
        syns = [client(one, 1000, 0, SYN, OFFER) for one in numbers]
        begun = time.process_time()
        for packet in syns:
            now += STEP
            host.receive(now, packet)
        answers = host.take()
        spent += time.process_time() - begun
        isns = [int.from_bytes(packet[24:28], "big") + 1 & 0xFFFFFFFF for packet in answers]
        acks = [client(one, 1001, isn, ACK) for one, isn in zip(numbers, isns, strict=True)]
        resets = [client(one, 1001, 0, RST) for one in numbers]
        begun = time.process_time()
        new = listener(host)
        host.close(now, old)
        for packet in acks:
            now += STEP
            host.receive(now, packet)
        held = list(_accepted(host, new))
        host.advance(now)
        host.events()
        spent += time.process_time() - begun
        old = new
        accepted += len(held)
        for packet in resets:
            host.receive(now, packet)
        host.events()
    return Sample(
        {
            "rate": accepted / spent,
            "done": accepted,
            "lost": wanted - accepted,
            "migrated": host.counts["TCPMigrateReqSuccess"],
            "resident": resident() / 1e6,
        },
        {},
    )


def _accepted(host: Host, one: Listener) -> Iterator[Connection]:
    with suppress(KernelError):
        while True:
            yield host.accept(one)


def _pair() -> tuple[Host, Connection, int]:
    """A connection, and the number that the client acknowledges first."""
    host = fresh()
    one = listener(host)
    host.receive(0.0, client(0, 1000, 0, SYN, OFFER))
    isn = int.from_bytes(host.take()[0][24:28], "big") + 1 & 0xFFFFFFFF
    host.receive(0.0, client(0, 1001, isn, ACK, STAMPS))
    return host, host.accept(one), isn


def _sent(total: int) -> Sample:
    """The client acknowledges each second segment."""
    host, connection, expected = _pair()
    chunk, written, got, now, spent = bytes(1 << 18), 0, 0, 0.0, 0.0
    while got < total:
        now += STEP
        begun = time.process_time()
        with suppress(KernelError):
            written += host.write(now, connection, chunk)
        out = host.take()
        spent += time.process_time() - begun
        acks = []
        for number, packet in enumerate(out):
            size = len(packet) - 52  # the headers, with timestamps
            got += size
            expected = (expected + size) & 0xFFFFFFFF
            if number % 2 or number == len(out) - 1:
                acks.append(client(0, 1001, expected, ACK, STAMPS))
        begun = time.process_time()
        for packet in acks:
            host.receive(now, packet)
        spent += time.process_time() - begun
    return Sample(
        {"bytes": got / spent / 1e6, "lost": written - got - len(connection.outgoing)}, {}
    )


def _taken(total: int) -> Sample:
    """The program reads after every tenth segment."""
    host, connection, isn = _pair()
    payload, seq, read, now, spent = bytes(1448), 1001, 0, 0.0, 0.0
    rounds = total // (10 * len(payload))
    for _ in range(rounds):
        packets = []
        for _ in range(10):
            packets.append(client(0, seq, isn, ACK | PSH, STAMPS, payload))
            seq += len(payload)
        now += STEP
        begun = time.process_time()
        for packet in packets:
            host.receive(now, packet)
        read += len(host.read(now, connection))
        host.take()
        host.events()
        spent += time.process_time() - begun
    return Sample({"bytes": read / spent / 1e6, "lost": rounds * 10 * len(payload) - read}, {})


CASE = Case(
    "model",
    "The model on a clock of its own",
    "`segue.model` on one core, by CPU time: a thousand handshakes are under way when a listener is"
    " replaced, and all of them migrate, again and again; one connection sends, and another"
    " receives. What the clients' packets take to make is not counted. `handshakes=1000000"
    " repetitions=1` asks for a million. *Lost* are handshakes without a connection, or bytes.",
    measure,
    (
        Column("done", "handshakes", "sum", 0),
        Column("migrated", "migrated", "sum", 0),
        Column("rate", "a second of CPU time", digits=0),
        Column("bytes", "MB/s"),
        Column("lost", "lost", digits=0),
        Column("each", "bytes each", digits=0),
        Column("resident", "MB resident", digits=0),
    ),
    quick={"handshakes": 20000, "half_open": 10000, "megabytes": 10},
)
