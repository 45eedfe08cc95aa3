"""Classic BPF: bytes as net/core/filter.c reads them, jumps, and steering on the live kernel."""

from __future__ import annotations

import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.linux import cbpf
from segue.linux.cbpf import Alu, Ancillary, Label, Test, Width
from segue.linux.sockopt import open_listener

HERE = Address("127.0.0.1", 8000)
SIX = Address("::1", 8000)


@pytest.mark.parametrize(
    ("instruction", "golden"),
    [
        (cbpf.load(13, Width.U8), "3000 00 00 0d000000"),  # BPF_LD|BPF_B|BPF_ABS
        (cbpf.load_network(20, Width.U16), "2800 00 00 1400f0ff"),  # BPF_H, SKF_NET_OFF + 20
        (cbpf.load_network_at_x(0, Width.U16), "4800 00 00 0000f0ff"),  # BPF_IND
        (cbpf.load_ancillary(Ancillary.RXHASH), "2000 00 00 20f0ffff"),  # BPF_W, SKF_AD_OFF + 32
        (cbpf.load_ancillary(Ancillary.RANDOM), "2000 00 00 38f0ffff"),
        (cbpf.load_scratch(15), "6000 00 00 0f000000"),
        (cbpf.store_scratch(3), "0200 00 00 03000000"),
        (cbpf.x_from_ip_header_length(), "b100 00 00 0000f0ff"),  # BPF_LDX|BPF_B|BPF_MSH
        (cbpf.x_from_a(), "0700 00 00 00000000"),
        (cbpf.alu_imm(Alu.MUL, 0x9E3779B1), "2400 00 00 b179379e"),
        (cbpf.alu_x(Alu.XOR), "ac00 00 00 00000000"),
        (cbpf.answer(2), "0600 00 00 02000000"),
    ],
)
def test_instructions_byte_by_byte(instruction: cbpf.Instruction, golden: str) -> None:
    """Struct sock_filter: code, two distances, constant."""
    assert instruction.encode() == bytes.fromhex(golden)


def test_a_steering_program_byte_by_byte() -> None:
    """Port 443 to index 1, others to 0: the true branch falls through, the false one skips one."""
    program = cbpf.assemble(
        [
            cbpf.load_network(20, Width.U16),
            cbpf.jump_if(Test.EQ, 443, otherwise="else"),
            cbpf.answer(1),
            Label("else"),
            cbpf.answer(0),
        ]
    )
    assert cbpf.encode(program) == bytes.fromhex(
        "2800 00 00 1400f0ff  1500 00 01 bb010000  0600 00 00 01000000  0600 00 00 00000000"
    )


@given(st.integers(0, 255), st.sampled_from(Test))
def test_a_conditional_jump_reaches_255(distance: int, test: Test) -> None:
    """The distance is counted from the next instruction."""
    between: list[cbpf.Item] = [cbpf.answer(9)] * distance
    program = cbpf.assemble(
        [cbpf.jump_if(test, 1, then="there"), *between, Label("there"), cbpf.answer(0)]
    )
    assert (program[0].jt, program[0].jf) == (distance, 0)


def test_a_jump_may_compare_with_x() -> None:
    """BPF_JMP|BPF_JGT|BPF_X, with the distances where they are otherwise."""
    program = cbpf.assemble(
        [cbpf.jump_if_x(Test.GT, otherwise="end"), cbpf.answer(1), Label("end"), cbpf.answer(0)]
    )
    assert program[0].encode() == bytes.fromhex("2d00 00 01 00000000")


def test_an_unconditional_jump_reaches_farther() -> None:
    """Its distance is in the constant."""
    between: list[cbpf.Item] = [cbpf.answer(9)] * 300
    program = cbpf.assemble([cbpf.jump("end"), *between, Label("end"), cbpf.answer(0)])
    assert (program[0].code, program[0].k) == (5, 300)


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([], "between 1 and 4096 instructions"),
        ([cbpf.answer(0)] * 4097, "got 4097"),
        ([cbpf.jump("x"), cbpf.answer(0)], "no label 'x'"),
        ([Label("x"), Label("x"), cbpf.answer(0)], "'x' stands twice"),
        ([Label("x"), cbpf.answer(0), cbpf.jump("x")], "lies behind the jump at 1"),
        (
            [cbpf.jump_if(Test.EQ, 1, "x"), *[cbpf.answer(0)] * 256, Label("x"), cbpf.answer(0)],
            "reaches 255",
        ),
    ],
)
def test_a_program_that_cannot_be_is_refused(items: list[cbpf.Item], complaint: str) -> None:
    """Before the kernel, and with the name of the label."""
    with pytest.raises(UsageError, match=complaint):
        cbpf.assemble(items)


def test_numbers_that_do_not_fit_are_refused() -> None:
    """A constant has 32 bits, the scratch memory sixteen words."""
    with pytest.raises(UsageError, match="32 bits"):
        cbpf.answer(1 << 32).encode()
    with pytest.raises(UsageError, match="between 0 and 15"):
        cbpf.store_scratch(16)


def takers(address: Address, listeners: list[socket.socket], count: int) -> Counter[int]:
    """Which listeners got so many new connections, one after the other."""
    found: Counter[int] = Counter()
    for one in listeners:
        one.setblocking(False)
    for _ in range(count):
        with socket.create_connection((address.host, address.port), timeout=PATIENCE):
            for number, one in enumerate(listeners):
                try:
                    one.accept()[0].close()
                except BlockingIOError:
                    continue
                found[number] += 1
    return found


def steered(address: Address) -> list[list[int]]:
    """Who gets ten connections after each answer."""
    listeners = [open_listener(address, backlog=8) for _ in range(3)]
    told = []
    for index in (0, 2, 1):
        cbpf.attach_reuseport(listeners[0], [cbpf.answer(index)])
        told.append(sorted(takers(address, listeners, 10)))
    for one in listeners:
        one.close()
    return told


def odd_ports_to(address: Address, index: int, others: int) -> list[cbpf.Instruction]:
    at = 40 if address.family == socket.AF_INET6 else 20
    return cbpf.assemble(
        [
            cbpf.load_network(at, Width.U16),
            cbpf.jump_if(Test.SET, 1, otherwise="even"),
            cbpf.answer(index),
            Label("even"),
            cbpf.answer(others),
        ]
    )


def by_parity(address: Address) -> bool:
    """Connections go by their source port's last bit, from ports of our choice."""
    listeners = [open_listener(address, backlog=8) for _ in range(2)]
    cbpf.attach_reuseport(listeners[0], odd_ports_to(address, 1, others=0))
    right = True
    for port in range(5000, 5010):
        where = (address.host, address.port)
        with socket.create_connection(where, timeout=PATIENCE, source_address=(address.host, port)):
            listeners[port % 2].settimeout(PATIENCE)
            child, peer = listeners[port % 2].accept()
            child.close()
            right &= peer[1] == port
    for one in listeners:
        one.close()
    return right


@pytest.mark.root
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("address", [HERE, SIX], ids=str)
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_an_index_names_a_member_in_order_of_listen(address: Address, who: str) -> None:
    """Every connection, in both families, and for a user without any privilege."""

    def work() -> list[object]:
        return [steered(address), by_parity(address)]

    told = work() if who == "root" else as_nobody(work)
    assert told == [[[0], [2], [1]], True]


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_detached_the_hash_decides_again() -> None:
    """And an index beyond the last does the same as no program."""
    listeners = [open_listener(HERE, backlog=64) for _ in range(2)]
    try:
        cbpf.attach_reuseport(listeners[0], [cbpf.answer(99)])
        assert set(takers(HERE, listeners, 40)) == {0, 1}
        cbpf.attach_reuseport(listeners[1], [cbpf.answer(1)])
        assert set(takers(HERE, listeners, 40)) == {1}
        cbpf.detach_reuseport(listeners[0])
        assert set(takers(HERE, listeners, 40)) == {0, 1}
        with pytest.raises(KernelError, match="ENOENT"):
            cbpf.detach_reuseport(listeners[0])
    finally:
        for one in listeners:
            one.close()


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_filter_drops_what_reaches_one_listener() -> None:
    """No SYN is answered while it is there; removing a second time is ENOENT."""
    with open_listener(HERE, backlog=8) as listener:
        cbpf.attach_filter(listener, [cbpf.answer(0)])
        with socket.socket() as client:
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.connect(("127.0.0.1", 8000))
        assert cbpf.filter_length(listener) == 1
        cbpf.detach_filter(listener)
        assert cbpf.filter_length(listener) == 0
        assert takers(HERE, [listener], 1) == {0: 1}
        with pytest.raises(KernelError, match="ENOENT"):
            cbpf.detach_filter(listener)


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_what_the_kernel_refuses_is_said() -> None:
    """A socket without SO_REUSEPORT, and a program that loads what it never stored."""
    with open_listener(HERE, backlog=8, reuseport=False) as alone:
        with pytest.raises(KernelError, match="no reuseport group"):
            cbpf.attach_reuseport(alone, [cbpf.answer(0)])
        with pytest.raises(KernelError, match="EINVAL"):
            cbpf.attach_filter(alone, [cbpf.load_scratch(1), cbpf.answer(0)])
