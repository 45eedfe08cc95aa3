"""The program that shares by classic BPF, run by a small machine of our own, packet by packet."""

from __future__ import annotations

import operator
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.address import Address
from segue.engine.classic_program import NOBODY, drop_all, drop_knock, steer
from segue.errors import UsageError
from segue.linux import cbpf, sockopt
from segue.linux.cbpf import Instruction
from segue.shares import SIZE, quotas

NET, ANCILLARY, RXHASH = 0xFFF00000, 0xFFFFF000, 32

ALU: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x20: operator.mul,
    0x50: operator.and_,
    0x70: operator.rshift,
    0xA0: operator.xor,
}
TESTS: dict[int, Callable[[int, int], bool]] = {0x10: operator.eq, 0x30: operator.ge}


def run(program: list[Instruction], packet: bytes, rxhash: int) -> int:
    """What the program answers for a packet from its network header on; KeyError for more than
    these programs need.
    """
    a = x = at = 0
    scratch: dict[int, int] = {}

    def load(width: int, offset: int) -> int:
        if offset == ANCILLARY + RXHASH:
            return rxhash
        size = {0x00: 4, 0x08: 2, 0x10: 1}[width]
        place = offset - NET
        assert 0 <= place <= len(packet) - size, "a load outside the packet would answer 0"
        return int.from_bytes(packet[place : place + size], "big")

    while True:
        one = program[at]
        at += 1
        family, other = one.code & 0x07, x if one.code & 0x08 else one.k
        if family == 0:
            mode, width = one.code & 0xE0, one.code & 0x18
            a = scratch[one.k] if mode == 0x60 else load(width, one.k + (x if mode == 0x40 else 0))
        elif family == 1:
            assert one.code == 0xB1
            x = 4 * (load(0x10, one.k) & 0xF)
        elif family == 2:
            scratch[one.k] = a
        elif family == 4:
            a = ALU[one.code & 0xF0](a, other) & 0xFFFFFFFF
        elif family == 5 and one.code == 5:
            at += one.k
        elif family == 5:
            at += one.jt if TESTS[one.code & 0xF0](a, other) else one.jf
        elif family == 6:
            return one.k
        else:
            assert one.code == 7
            x = a


def syn(source: str, target: str, port: int, options: bytes = b"") -> bytes:
    """IP header and ports; IPv4 may have options."""
    ports = struct.pack("!HH", port, 80)
    if ":" in source:
        ends = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (source, target))
        return struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ends + ports
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 40, 0, 0, 64, 6, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target) + options + ports


FOUR = syn("192.0.2.7", "192.0.2.1", 40000)
SIX = syn("2001:db8::7", "2001:db8::1", 40000)
OPTIONS = syn("192.0.2.7", "192.0.2.1", 40000, b"\x01" * 8)


@given(
    st.dictionaries(st.integers(0, 99), st.floats(0.01, 100), min_size=1, max_size=9),
    st.sampled_from([FOUR, SIX, OPTIONS]),
)
def test_each_index_gets_exactly_its_hashes(weights: dict[int, float], packet: bytes) -> None:
    """Over all SIZE hashes, to the last entry, whatever the upper bits are."""
    shares = quotas(weights)
    program = steer(shares, {})
    # A hash of 0 stands for none, so that entry is reached by its upper bits.
    found = Counter(run(program, packet, SIZE + entry) for entry in range(SIZE))
    assert found == shares


@given(
    st.dictionaries(st.integers(1, 65535), st.integers(0, 99), max_size=20),
    st.booleans(),
    st.integers(0, (1 << 32) - 1),
)
def test_a_pin_is_for_its_port_alone(pins: Mapping[int, int], shared: bool, rxhash: int) -> None:
    """Whatever the hash, the family and the IP options; others go by share, or to nobody."""
    program = steer({500: SIZE} if shared else {}, pins)
    for port in {40000, *pins}:
        wanted = pins.get(port, 500 if shared else NOBODY)
        for packet in (
            syn("192.0.2.7", "192.0.2.1", port),
            syn("2001:db8::7", "2001:db8::1", port),
            syn("192.0.2.7", "192.0.2.1", port, b"\x01" * 40),
        ):
            assert run(program, packet, rxhash) == wanted


@pytest.mark.parametrize("source", ["192.0.2.{}", "198.51.{}.9", "2001:db8::{}", "2001:db8:{}::1"])
def test_without_a_flow_hash_clients_spread(source: str) -> None:
    """One host's ports, and hosts with one port, evenly; one client always to the same place."""
    program = steer(dict.fromkeys(range(4), SIZE // 4), {})
    by_port = Counter(
        run(program, syn(source.format(7), source.format(1), port), 0)
        for port in range(32768, 36768, 2)
    )
    by_host = Counter(
        run(program, syn(source.format(host), source.format(1), port), 0)
        for host in range(2, 252)
        for port in range(40000, 40008)
    )
    for found in (by_port, by_host):
        # 5 sigma of a binomial with n = 2000, p = 1/4 is 97.
        assert all(abs(found[index] - 500) < 97 for index in range(4))
    packet = syn(source.format(7), source.format(1), 40000)
    assert len({run(program, packet, 0) for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("packet", "kept"),
    [
        (syn("127.0.0.1", "127.0.0.1", 4000), False),
        (syn("127.0.0.1", "127.0.0.1", 4001), True),
        (syn("127.0.0.2", "127.0.0.1", 4000), True),
        (syn("::1", "::1", 4000), False),
        (syn("::1", "::1", 4001), True),
        (syn("2001:db8::7", "2001:db8::1", 4000), True),
    ],
)
def test_a_knock_is_dropped_and_nothing_else(packet: bytes, kept: bool) -> None:
    """From that port of ours, and from this host to itself."""
    assert run(drop_knock(4000), packet, 1) == (NOBODY if kept else 0)
    assert run(drop_all(), packet, 1) == 0


@pytest.mark.root
@pytest.mark.kernel("6.8")
@pytest.mark.usefixtures("netns")
def test_the_kernel_takes_a_thousand_members() -> None:
    """As many shares as a front has slots, and some pins; with more it is refused before.

    Linux 6.8 raised net.core.optmem_max; by its old default it takes about 800.
    """
    shares = quotas(dict.fromkeys(range(1024), 1.0))
    program = steer(shares, dict.fromkeys(range(1, 65), 1))
    with sockopt.open_listener(Address("127.0.0.1", 8080), backlog=1) as listener:
        cbpf.attach_reuseport(listener, program)
    with pytest.raises(UsageError, match="between 1 and 4096 instructions"):
        steer(quotas(dict.fromkeys(range(2100), 1.0)), {})
