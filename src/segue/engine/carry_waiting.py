# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""Requests that nobody has read yet, of connections that have the filter: a sample of them.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the filter is, of which it is a part (``engine/carry_notes.py``).

The filter writes down where a request came, if the *place* of its connection is free.  The *scan*,
a program that is run by hand, frees the places of those that have been read.  So what is left
belongs to workers that are slow, however many requests come; and of a worker that reads nothing
more the places fill up.  While nobody scans, the *bell* says that a request came.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from segue.bpf import asm
from segue.bpf.btf import Btf
from segue.bpf.btf_fields import Field, field
from segue.bpf.insn import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Alu,
    Helper,
    Instruction,
    Jump,
    Size,
)
from segue.engine.carry_look import COMMON, IPV4_TUPLE, IPV6_TUPLE, load
from segue.linux.bpf_variables import Variables
from segue.linux.closing import Closing
from segue.linux.ringbuf import RingBuffer
from segue.observe.carrying import ESTABLISHED

PLACES = 256
_PLACE_BYTES = 64
# Before the places: the bell is to be rung; some place was taken at a scan; zero.
_ARMED, _TAKEN, _ZERO, _FIRST = 0, 8, 16, 64
BYTES = _FIRST + PLACES * _PLACE_BYTES
# A place: when the request came (0: it is free), the connection, the request's first byte, the IP
# version, then addresses and ports as a look-up wants them; and the socket's inode, by the scan.
_TIME, _COOKIE, _START, _VERSION, _TUPLE, _INODE = 0, 8, 16, 20, 24, 60
FROM_NETWORK_HEADER = 1  # BPF_HDR_START_NET
_NAMESPACE_OF_THE_PACKET = -1  # BPF_F_CURRENT_NETNS
# From a socket to the number of its inode: 0 before it is accepted.
_WAY = (
    ("tcp_sock", "inet_conn.icsk_inet.sk.sk_socket"),
    ("socket", "file"),
    ("file", "f_inode"),
    ("inode", "i_ino"),
)


@dataclass(frozen=True, slots=True)
class Unread:
    """A request that its owner has not begun to read."""

    since: float  # by time.monotonic
    cookie: int
    inode: int  # 0 before the connection is accepted


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the kernel has what the scan reads."""

    cookie: Field
    state: Field
    copied_seq: Field
    rcv_nxt: Field
    to_inode: list[Field]


def fields(btf: Btf) -> Fields:
    """As they are in this kernel.  Raises NotSupported."""
    return Fields(
        field(btf, "tcp_sock", f"{COMMON}skc_cookie.counter"),
        field(btf, "tcp_sock", f"{COMMON}skc_state"),
        field(btf, "tcp_sock", "copied_seq"),
        field(btf, "tcp_sock", "rcv_nxt"),
        [field(btf, structure, way) for structure, way in _WAY],
    )


class Waiting(Closing):
    """The places and the bell, in which the filter writes.  ``scan`` is run before ``unread``."""

    def __init__(self) -> None:
        """Raises KernelError."""
        with ExitStack() as stack:
            self.places = stack.enter_context(Variables.begin(bytes(BYTES), name="segue_waiting"))
            self.bell = stack.enter_context(RingBuffer.create(1, "segue_bell"))
            self._owned = stack.pop_all()

    def unread(self) -> list[Unread]:
        """What was left at the last scan, in no order."""
        data = memoryview(self.places.read(0, BYTES))[_FIRST:]
        words = data.cast("Q")
        step = _PLACE_BYTES // 8
        found = [at for at, time in enumerate(words[::step].tolist()) if time]
        inodes = data.cast("I")[_INODE // 4 :: 2 * step]
        return [
            Unread(words[step * at] / 1e9, words[step * at + _COOKIE // 8], inodes[at])
            for at in found
        ]

    def came(self) -> bool:
        """Whether some request was in a place at a scan since this was asked last."""
        taken = any(self.places.read(_TAKEN, 8))
        self.places.write(_TAKEN, bytes(8))
        return taken

    def arm(self) -> None:
        """The next request that gets a place makes the bell readable, once."""
        for _ in self.bell.records():
            pass
        self.places.write(_ARMED, (1).to_bytes(8, "little"))

    def disarm(self) -> None:
        """It does not any more; twice is no error."""
        self.places.write(_ARMED, bytes(8))

    def close(self) -> None:
        """Let go of both; twice is no error."""
        self._owned.close()


def sample(places: int, bell: int, cookie: int, start: int, zero: int) -> list[asm.Item]:
    """Instructions of the filter that write down a request which begins, by descriptors of the
    maps.  On the stack are the cookie, the number of the first byte, and room for a key.  R6 is the
    packet.
    """
    return [
        asm.store_imm(Size.U32, FP, zero, 0),
        *asm.by_key(Helper.MAP_LOOKUP_ELEM, places, zero),
        asm.jump_imm(Jump.EQ, R0, 0, "sampled"),
        asm.mov_reg(R9, R0),
        asm.load(Size.U64, R8, FP, cookie),
        asm.alu_imm(Alu.AND, R8, PLACES - 1),
        asm.alu_imm(Alu.MUL, R8, _PLACE_BYTES),
        asm.alu_reg(Alu.ADD, R8, R9),
        asm.load(Size.U64, R2, R8, _FIRST + _TIME),
        asm.jump_imm(Jump.EQ, R2, 0, "a free place"),
        # Its own last request, which has its answer by now.
        asm.load(Size.U64, R2, R8, _FIRST + _COOKIE),
        asm.load(Size.U64, R3, FP, cookie),
        asm.jump_reg(Jump.NE, R2, R3, "sampled"),
        asm.Label("a free place"),
        *from_header(0, FP, zero, 1, "sampled"),
        asm.load(Size.U8, R2, FP, zero),
        asm.alu_imm(Alu.RSH, R2, 4),
        asm.store_reg(Size.U32, R8, _FIRST + _VERSION, R2),
        asm.jump_imm(Jump.EQ, R2, 6, "sampled of IPv6"),
        *from_header(12, R8, _FIRST + _TUPLE, IPV4_TUPLE - 4, "sampled"),
        *_ports(IPV4_TUPLE - 4),
        asm.jump("ends known"),
        asm.Label("sampled of IPv6"),
        *from_header(8, R8, _FIRST + _TUPLE, IPV6_TUPLE - 4, "sampled"),
        *_ports(IPV6_TUPLE - 4),
        asm.Label("ends known"),
        asm.load(Size.U64, R2, FP, cookie),
        asm.store_reg(Size.U64, R8, _FIRST + _COOKIE, R2),
        asm.load(Size.U32, R2, FP, start),
        asm.store_reg(Size.U32, R8, _FIRST + _START, R2),
        asm.call(Helper.KTIME_GET_NS),
        # Last: what has a time counts.
        asm.store_reg(Size.U64, R8, _FIRST + _TIME, R0),
        asm.load(Size.U64, R2, R9, _ARMED),
        asm.jump_imm(Jump.EQ, R2, 0, "sampled"),
        asm.store_imm(Size.U64, R9, _ARMED, 0),
        asm.load_map(R1, bell),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, cookie),
        asm.mov_imm(R3, 8),
        asm.mov_imm(R4, 0),
        asm.call(Helper.RINGBUF_OUTPUT),
        asm.Label("sampled"),
    ]


def from_header(offset: int, base: int, place: int, count: int, short: str) -> list[asm.Item]:
    """So many bytes of the packet in R6, from the header of IP on; else to this label."""
    return [
        asm.mov_reg(R1, R6),
        asm.mov_imm(R2, offset),
        asm.mov_reg(R3, base),
        asm.alu_imm(Alu.ADD, R3, place),
        asm.mov_imm(R4, count),
        asm.mov_imm(R5, FROM_NETWORK_HEADER),
        asm.call(Helper.SKB_LOAD_BYTES_RELATIVE),
        asm.jump_imm(Jump.NE, R0, 0, short),
    ]


def _ports(after: int) -> list[asm.Item]:
    return [
        asm.mov_reg(R1, R6),
        asm.mov_imm(R2, 0),
        asm.mov_reg(R3, R8),
        asm.alu_imm(Alu.ADD, R3, _FIRST + _TUPLE + after),
        asm.mov_imm(R4, 4),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "sampled"),
    ]


def scan(where: Fields, places: int) -> list[Instruction]:
    """A classifier that frees the places of what has been read, or is over."""
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            asm.store_imm(Size.U64, FP, -8, 0),
            *asm.by_key(Helper.MAP_LOOKUP_ELEM, places, -8),
            asm.jump_imm(Jump.EQ, R0, 0, "out"),
            asm.mov_reg(R7, R0),
            # Zero: nobody writes there.  With a number that is known each place would be verified.
            asm.load(Size.U64, R8, R7, _ZERO),
            asm.Label("place"),
            asm.may_goto("out"),
            asm.jump_imm(Jump.GE, R8, PLACES, "out"),
            asm.mov_reg(R9, R8),
            asm.alu_imm(Alu.MUL, R9, _PLACE_BYTES),
            asm.alu_reg(Alu.ADD, R9, R7),
            asm.load(Size.U64, R2, R9, _FIRST + _TIME),
            asm.jump_imm(Jump.EQ, R2, 0, "next"),
            asm.store_imm(Size.U64, R7, _TAKEN, 1),
            *_look_up(),
            *_compare(where),
            *_write_inode(where.to_inode),
            asm.load(Size.U64, R1, FP, -8),
            asm.call(Helper.SK_RELEASE),
            asm.jump("next"),
            asm.Label("release and free"),
            asm.load(Size.U64, R1, FP, -8),
            asm.call(Helper.SK_RELEASE),
            asm.Label("free"),
            asm.store_imm(Size.U64, R9, _FIRST + _TIME, 0),
            asm.Label("next"),
            asm.alu_imm(Alu.ADD, R8, 1),
            asm.jump("place"),
            asm.Label("out"),
            asm.mov_imm(R0, 0),
            asm.leave(),
        ]
    )


def _look_up() -> list[asm.Item]:
    """On the stack what was found, which is to be released; in R0 the same as struct tcp_sock."""
    return [
        asm.mov_imm(R3, IPV6_TUPLE),
        asm.load(Size.U32, R2, R9, _FIRST + _VERSION),
        asm.jump_imm(Jump.EQ, R2, 6, "long enough"),
        asm.mov_imm(R3, IPV4_TUPLE),
        asm.Label("long enough"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R9),
        asm.alu_imm(Alu.ADD, R2, _FIRST + _TUPLE),
        asm.mov_imm(R4, _NAMESPACE_OF_THE_PACKET),
        asm.mov_imm(R5, 0),
        asm.call(Helper.SKC_LOOKUP_TCP),
        asm.jump_imm(Jump.EQ, R0, 0, "free"),
        asm.store_reg(Size.U64, FP, -8, R0),
        asm.mov_reg(R1, R0),
        asm.call(Helper.SKC_TO_TCP_SOCK),
        asm.jump_imm(Jump.EQ, R0, 0, "release and free"),
    ]


def _compare(where: Fields) -> list[asm.Item]:
    """On, if it is the same connection and the request's first byte waits to be read."""
    return [
        *load(R2, R0, where.cookie),
        asm.load(Size.U64, R3, R9, _FIRST + _COOKIE),
        asm.jump_reg(Jump.NE, R2, R3, "release and free"),
        *load(R2, R0, where.state),
        asm.jump_imm(Jump.NE, R2, ESTABLISHED, "release and free"),
        asm.load(Size.U32, R3, R9, _FIRST + _START),
        *load(R2, R0, where.copied_seq),
        *_difference(R2, R3),
        asm.jump_imm(Jump.SGT, R2, 0, "release and free"),
        *load(R2, R0, where.rcv_nxt),
        *_difference(R2, R3),
        asm.jump_imm(Jump.SLE, R2, 0, "release and free"),
    ]


def _difference(one: int, other: int) -> list[asm.Item]:
    """Of sequence numbers, with its sign."""
    return [
        asm.alu_reg(Alu.SUB, one, other),
        asm.alu_imm(Alu.LSH, one, 32),
        asm.alu_imm(Alu.ARSH, one, 32),
    ]


def _write_inode(way: list[Field]) -> list[asm.Item]:
    items: list[asm.Item] = [asm.mov_reg(R3, R0), asm.mov_imm(R2, 0)]
    for one in way[:-1]:
        items += [*load(R3, R3, one), asm.jump_imm(Jump.EQ, R3, 0, "inode known")]
    return [
        *items,
        *load(R2, R3, way[-1]),
        asm.Label("inode known"),
        asm.store_reg(Size.U32, R9, _FIRST + _INODE, R2),
    ]
