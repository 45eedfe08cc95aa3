"""Packets as no well-meaning peer sends them: valid ones, changed by chance.

A flow is followed closely enough that most of what is made concerns a connection there is; then
parts of it are made wrong, and the checksums mostly right again, so that it is not refused at the
door.  All chance is the caller's.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from segue.errors import WireError
from segue.model.arrival import read
from segue.wire import checksum, ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN

_MASK = 0xFFFFFFFF
_IPV6 = 40
_BEGINNING = (SYN, SYN, SYN, SYN, ACK, ACK | PSH, RST)
_TALKING = (
    SYN,
    ACK,
    ACK,
    ACK,
    ACK,
    ACK | PSH,
    ACK | PSH,
    ACK | PSH,
    ACK | PSH,
    ACK | FIN,
    ACK | FIN,
)
_OFF_SEQ = (0,) * 8 + (1, -1, 2, 5, -5, 700, 1448, -1448, 40_000, 70_000, -70_000, 1 << 31)
_OFF_ACK = (0,) * 10 + (1, -1, 2, 1000, -1000, 70_000, 1 << 31)
_SIZES = (0, 0, 0, 1, 2, 10, 100, 536, 1448, 9000)
_WINDOWS = (0, 1, 2, 500, 500, 500, 65535)
_EXTENSIONS = (0, 43, 44, 50, 51, 58, 59, 60, 135, 17, 1)
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_SENSELESS_OPTIONS = (
    b"\x02\x00", b"\x02\x01", b"\x02\x04\x00\x00", b"\x02\x04\x00\x01", b"\x02\xff\x05\xb4",
    b"\x03\x03\xff", b"\x03\x02", b"\x04\x03\x00", b"\x05\x02", b"\x05\x0a" + b"\xff" * 8,
    b"\x05\x0b" + b"\x00" * 9, b"\x08\x0a" + b"\xff" * 8, b"\x08\x02", b"\x08", b"\x22\x02",
    b"\x22\x06abcd", b"\x22\x12" + b"a" * 16, b"\x22\x05abc", b"\xfd\x04\xf9\x89", b"\x00\x02",
    b"\x1c\x04\x00\x01", b"\x13\x12" + b"m" * 16, b"\x01" * 8, b"\xff\xff",
)  # fmt: skip


@dataclass(slots=True)
class Flow:
    """What a client knows of its own connection; ``addresses`` and ``ports`` are its own first."""

    addresses: bytes
    ports: bytes
    seq: int = 5000
    ack: int = 0
    stamp: int = 1000
    echo: int = 0
    fast_open: bytes | None = None
    talking: bool = False
    wild: float = 1.0  # how much of what it sends is wrong; 0: nothing

    def learn(self, flags: int, seq: int, taken: int, ack: int, said: Options) -> None:
        """A segment came back: mostly believe it."""
        if flags & RST:
            self.seq = (self.seq + 100_000) & _MASK
            self.talking = False
            return
        self.ack = (seq + taken) & _MASK
        if flags & SYN:
            self.seq, self.talking = ack, True
            self.fast_open = said.fast_open or self.fast_open
        if said.stamps is not None:
            self.echo = said.stamps[0]


def packet(chance: random.Random, flow: Flow) -> bytes:
    """One packet of the flow, more often than not with something wrong in it."""
    wild = flow.wild
    if chance.random() < 0.01 * wild:
        return chance.randbytes(chance.choice((0, 1, 19, 20, 39, 40, 60, 200)))
    header, payload = _segment(chance, flow)
    wrong = chance.random()
    if wrong < 0.35 * wild:
        _TCP_FAULTS[chance.randrange(len(_TCP_FAULTS))](chance, header)
    segment = header + payload
    made = bytearray(_carry(flow, segment))
    if wrong > 1 - 0.15 * wild:
        for _ in range(chance.choice((1, 1, 2, 5))):
            _IP_FAULTS[chance.randrange(len(_IP_FAULTS))](chance, made)
    if chance.random() < 1 - 0.05 * wild:
        put_right(made)
    if chance.random() < 0.02 * wild:
        del made[chance.randrange(len(made) + 1) :]
    return bytes(made)


def _segment(chance: random.Random, flow: Flow) -> tuple[bytearray, bytes]:
    """A header and data that could be the flow's next."""
    flags = chance.choice(_TALKING if flow.talking else _BEGINNING)
    if chance.random() < 0.02:
        flags = RST
    if chance.random() < 0.08 * flow.wild:
        flags = chance.getrandbits(8)
    payload = b""
    if flags & PSH or (flags & SYN and chance.random() < 0.15) or chance.random() < 0.05:
        payload = b"x" * chance.choice(_SIZES)
    astray = chance.random() < flow.wild
    seq = (flow.seq + (chance.choice(_OFF_SEQ) if astray else 0)) & _MASK
    ack = (flow.ack + (chance.choice(_OFF_ACK) if astray else 0)) & _MASK if flags & ACK else 0
    said = options.emit(_said(chance, flow, syn=bool(flags & SYN)))[:40]
    header = bytearray(
        flow.ports + struct.pack("!II", seq, ack)
        + bytes(((20 + len(said)) << 2, flags))
        + chance.choice(_WINDOWS).to_bytes(2, "big") + b"\0\0\0\0" + said
    )  # fmt: skip
    if flags & ACK and not flags & (SYN | RST) and seq == flow.seq:
        flow.seq = (seq + len(payload) + bool(flags & FIN)) & _MASK
        flow.talking = not flags & FIN or chance.random() < 0.7
    return header, payload


def _said(chance: random.Random, flow: Flow, *, syn: bool) -> Options:
    flow.stamp += 1
    if syn:
        cookie = chance.choice((None, None, None, b"", flow.fast_open, b"12345678"))
        stamps = (flow.stamp, 0) if chance.random() < 0.7 else None
        return Options(
            chance.choice((1460, 1460, 536, 48, 1, 0, 65535)), chance.choice((None, 0, 7, 14, 255)),
            chance.random() < 0.8, stamps, fast_open=cookie,
        )  # fmt: skip
    wrong = chance.random()
    if wrong < 1 - 0.2 * flow.wild:
        return Options(stamps=(flow.stamp, flow.echo))
    if wrong < 0.9:
        return Options(stamps=(chance.getrandbits(32), chance.getrandbits(32)))
    low = chance.getrandbits(32)
    return Options(sack=((low, low + chance.choice(_OFF_SEQ) & _MASK),) * chance.randint(1, 4))


def _carry(flow: Flow, segment: bytearray) -> bytes:
    emit = ipv6.emit if len(flow.addresses) == 32 else ipv4.emit
    return emit(flow.addresses, ipv4.TCP, bytes(segment))


def put_right(made: bytearray) -> None:
    """Both checksums, as far as there is anything to sum."""
    if not made:
        return
    if made[0] >> 4 == 6:
        start, end, addresses = _IPV6, _IPV6 + int.from_bytes(made[4:6], "big"), made[8:40]
    else:
        start, end, addresses = (made[0] & 15) * 4, int.from_bytes(made[2:4], "big"), made[12:20]
        if len(made) >= start >= ipv4.SHORTEST:
            made[10:12] = b"\0\0"
            made[10:12] = checksum.internet(bytes(made[:start])).to_bytes(2, "big")
    if len(made[start:end]) >= tcp.SHORTEST:
        made[start + 16 : start + 18] = b"\0\0"
        summed = checksum.tcp(bytes(addresses), bytes(made[start:end]))
        made[start + 16 : start + 18] = summed.to_bytes(2, "big")


# What may be wrong in a TCP header with its options.

Fault = Callable[[random.Random, bytearray], None]


def _any_number(chance: random.Random, header: bytearray) -> None:
    at = chance.choice((4, 8))
    header[at : at + 4] = chance.choice(
        (chance.getrandbits(32), 0, 1, _MASK, 0x7FFFFFFF, 0x80000000)
    ).to_bytes(4, "big")


def _any_flags(chance: random.Random, header: bytearray) -> None:
    header[13] = chance.getrandbits(8)


def _any_offset(chance: random.Random, header: bytearray) -> None:
    header[12] = chance.getrandbits(8)


def _any_field(chance: random.Random, header: bytearray) -> None:
    at = chance.randrange(12, 20)
    header[at] = chance.choice((*_EDGES, chance.getrandbits(8)))


def _any_byte(chance: random.Random, data: bytearray) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice((*_EDGES, chance.getrandbits(8)))


def _other_options(chance: random.Random, header: bytearray) -> None:
    said = b"".join(
        chance.choice(_SENSELESS_OPTIONS) for _ in range(chance.randint(1, 6))
    ) + chance.randbytes(chance.randint(0, 3))
    said = said[:40]
    header[20:] = said + bytes((chance.randrange(2),)) * (-len(said) % 4)
    header[12] = len(header) << 2


def _random_options(chance: random.Random, header: bytearray) -> None:
    header[20:] = chance.randbytes(4 * chance.randint(1, 10))
    header[12] = len(header) << 2


_TCP_FAULTS: tuple[Fault, ...] = (
    _any_number, _any_flags, _any_offset, _any_field, _any_byte, _other_options, _random_options,
)  # fmt: skip


# What may be wrong in a whole packet.


def _any_length(chance: random.Random, made: bytearray) -> None:
    if len(made) < 6:
        return
    at = 4 if made[0] >> 4 == 6 else 2
    length = int.from_bytes(made[at : at + 2], "big") + chance.choice((-1, 1, -20, 20, 4, 40, 9999))
    made[at : at + 2] = (length & 0xFFFF).to_bytes(2, "big")


def _any_first(chance: random.Random, made: bytearray) -> None:
    if made:
        made[0] = chance.choice((0x45, 0x46, 0x4F, 0x44, 0x40, 0x60, 0x65, 0x55, 0x00, 0xFF))


def _fragment(chance: random.Random, made: bytearray) -> None:
    if len(made) > 7 and made[0] >> 4 == 4:
        made[6:8] = chance.choice((0x2000, 0x0001, 0x3FFF, 0x8000, 0x1FFF)).to_bytes(2, "big")


def _carried(chance: random.Random, made: bytearray) -> None:
    at = 6 if made and made[0] >> 4 == 6 else 9
    if len(made) > at:
        made[at] = chance.choice(_EXTENSIONS)


def _ipv4_options(chance: random.Random, made: bytearray) -> None:
    if len(made) > 20 and made[0] == 0x45:
        words = chance.randint(1, 10)
        made[20:20] = chance.choice((b"\x01", b"\x00", b"\x07", b"\x83")) * (4 * words)
        made[0] = 0x45 + words
        made[2:4] = min(len(made), 0xFFFF).to_bytes(2, "big")


def _cut(chance: random.Random, made: bytearray) -> None:
    del made[chance.randrange(len(made) + 1) :]


def _more(chance: random.Random, made: bytearray) -> None:
    made += chance.randbytes(chance.randint(1, 40))


_IP_FAULTS: tuple[Fault, ...] = (
    _any_length, _any_first, _fragment, _carried, _ipv4_options, _cut, _more, _any_byte,
)  # fmt: skip


def well_formed(made: bytes) -> bool:
    """A packet of the model's is whole and has right checksums."""
    try:
        read(made)
    except WireError:
        return False
    return True
