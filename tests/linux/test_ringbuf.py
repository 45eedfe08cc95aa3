"""The ring buffer, written by a program in the kernel and read here."""

from __future__ import annotations

import select
import socket

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R6, Alu, Helper, Instruction, Jump, Size
from segue.errors import UsageError
from segue.linux.bpf import Program, attach_reuseport
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from segue.linux.ringbuf import RingBuffer
from segue.linux.sockopt import open_listener

SYN = 0x02
HERE = Address("127.0.0.1", 8080)


def reporter(ring: int, size: int) -> list[Instruction]:
    """A program that writes the source port of each SYN, in ``size`` bytes of zeros.

    Of each SYN only: a FIN right behind the handshake's ACK may meet the listener as well, where
    another processor is just replacing the request by its child (inet_ehash_insert).
    """
    clear = [asm.store_imm(Size.U64, FP, -at, 0) for at in range(8, size + 8, 8)]
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            asm.load(Size.U64, R1, R6, 0),
            asm.load(Size.U64, R2, R6, 8),
            asm.mov_reg(R3, R1),
            asm.alu_imm(Alu.ADD, R3, 14),
            asm.jump_reg(Jump.GT, R3, R2, "pass"),
            asm.load(Size.U8, R3, R1, 13),
            asm.alu_imm(Alu.AND, R3, SYN),
            asm.jump_imm(Jump.EQ, R3, 0, "pass"),
            *clear,
            asm.load(Size.U16, R1, R1, 0),
            asm.store_reg(Size.U16, FP, -len(clear) * 8, R1),
            asm.load_map(R1, ring),
            asm.mov_reg(R2, FP),
            asm.alu_imm(Alu.ADD, R2, -len(clear) * 8),
            asm.mov_imm(R3, size),
            asm.mov_imm(R4, 0),
            asm.call(Helper.RINGBUF_OUTPUT),
            asm.Label("pass"),
            asm.mov_imm(R0, 1),
            asm.leave(),
        ]
    )


def connect() -> int:
    """A connection made, accepted by nobody and closed; its source port."""
    with socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE) as client:
        return int(client.getsockname()[1])


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("size", [2, 6, 8, 13, 64])
def test_every_record_comes_once_and_whole(netns: int, size: int) -> None:
    """In the order written, over several turns of the ring, whatever the padding."""
    with (
        RingBuffer.create(1, "segue_ring") as ring,
        Program.load(reporter(ring.fileno(), size)) as program,
        open_listener(HERE, backlog=1024) as listener,
    ):
        attach_reuseport(listener.fileno(), program.fileno())
        for _ in range(12):
            written = [connect() for _ in range(50)]
            read = list(ring.records())
            assert [len(one) for one in read] == [size] * 50
            assert [int.from_bytes(one[:2], "big") for one in read] == written
            for _ in written:
                listener.accept()[0].close()
        assert list(ring.records()) == []


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_it_is_readable_while_a_record_waits(netns: int) -> None:
    """Epoll says so, before and not after it is taken."""
    with (
        RingBuffer.create(1) as ring,
        Program.load(reporter(ring.fileno(), 8)) as program,
        open_listener(HERE, backlog=8) as listener,
        select.epoll() as epoll,
    ):
        epoll.register(ring, select.EPOLLIN)
        attach_reuseport(listener.fileno(), program.fileno())
        assert epoll.poll(0) == []
        connect()
        assert epoll.poll(5) == [(ring.fileno(), select.EPOLLIN)]
        assert len(list(ring.records())) == 1
        assert epoll.poll(0) == []


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_a_full_ring_loses_the_new_and_keeps_the_old(netns: int) -> None:
    """A page holds 4096 / 72 records of 64 bytes; reading makes room again."""
    with (
        RingBuffer.create(4096) as ring,
        Program.load(reporter(ring.fileno(), 64)) as program,
        open_listener(HERE, backlog=1024) as listener,
    ):
        attach_reuseport(listener.fileno(), program.fileno())
        written = [connect() for _ in range(70)]
        read = [int.from_bytes(one[:2], "big") for one in ring.records()]
        assert read == written[: len(read)]
        assert len(read) == (4096 - 1) // 72
        late = connect()
        assert [int.from_bytes(one[:2], "big") for one in ring.records()] == [late]


@pytest.mark.root
def test_only_a_ring_buffer_is_one() -> None:
    """Another map is refused, and stays its owner's."""
    with Map.create(MapType.ARRAY, value_size=8, entries=1) as array:
        with pytest.raises(UsageError, match="ARRAY map is not a ring buffer"):
            RingBuffer(array)
        assert array.fileno() >= 0


@pytest.mark.root
def test_closing_twice_is_no_error() -> None:
    """The descriptor goes with the mappings."""
    ring = RingBuffer.create(4096)
    ring.close()
    ring.close()
    assert ring.fileno() == -1
