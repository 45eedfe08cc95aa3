# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""The look: a connection's own structure in the kernel is read, without repair mode.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the classifier is: the kernel shows its structures only to such programs.

It is run by hand, and writes into the packet that it is run with.
"""

from __future__ import annotations

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

_NAMESPACE_OF_THE_PACKET = -1  # BPF_F_CURRENT_NETNS
COMMON = "inet_conn.icsk_inet.sk.__sk_common."
# In the order of ``Held``.
_FIELDS = (
    f"{COMMON}skc_state",
    "rcv_nxt",
    "snd_nxt",
    "snd_una",
    "write_seq",
    "copied_seq",
    "snd_wl1",
    "snd_wnd",
    "urg_data",
    "rx_opt.ts_recent",
    "rx_opt.mss_clamp",
    "rx_opt.snd_wscale",
    "rx_opt.rcv_wscale",
    "rx_opt.wscale_ok",
    "rx_opt.sack_ok",
    "rx_opt.tstamp_ok",
    "ecn_flags",
    "tcp_usec_ts",
    "bytes_received",
    "inet_conn.icsk_inet.sk.sk_rx_dst_ifindex",
)
# From a socket to the number of the program that is its filter.
_FILTER = (
    ("tcp_sock", "inet_conn.icsk_inet.sk.sk_filter"),
    ("sk_filter", "prog"),
    ("bpf_prog", "aux"),
    ("bpf_prog_aux", "id"),
)
# The packet with which a look is run has no header that counts: at these places are the addresses
# and ports, and then what was found.
_TUPLE_AT = 16
_FOUND_AT = 56
_NOTE_AT = _FOUND_AT + 8 * (len(_FIELDS) + 1)
NOTE_BYTES = 48
LOOK_BYTES = _NOTE_AT + NOTE_BYTES
THERE, NOBODY, ENDING = 0, 1, 2  # verdicts of the look
# struct __sk_buff
_DATA, _DATA_END = 76, 80

IPV4_TUPLE, IPV6_TUPLE = 12, 36


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the kernel has what a look reads."""

    of_tcp: list[Field]
    to_filter: list[Field]
    cookie: Field


def fields(btf: Btf) -> Fields:
    """As they are in this kernel.  Raises NotSupported."""
    return Fields(
        [field(btf, "tcp_sock", way) for way in _FIELDS],
        [field(btf, structure, way) for structure, way in _FILTER],
        field(btf, "tcp_sock", f"{COMMON}skc_cookie.counter"),
    )


def asked(four: bytes) -> bytearray:
    """The packet for a look at the connection with these addresses and ports."""
    return bytearray(bytes(_TUPLE_AT) + four).ljust(LOOK_BYTES, b"\0")


def seen(packet: bytearray) -> memoryview[int]:
    """The fields from the packet after it, in the order of ``Held``."""
    return memoryview(packet)[_FOUND_AT:_NOTE_AT].cast("Q")


def noted(packet: bytearray) -> bytes:
    """What was noted of the connection, from the packet after it; b"" when nothing was."""
    note = bytes(packet[_NOTE_AT:])
    return note if any(note) else b""


def look(where: Fields, tuple_bytes: int, notes: int) -> list[Instruction]:
    """A classifier that returns THERE; NOBODY when a packet would find neither a connection nor a
    listener; or ENDING when it would find what is no full socket, such as TIME_WAIT.

    For packets of IPv4 or of IPv6, by how many bytes are the tuple; ``notes`` is the descriptor of
    the filter's map.
    """
    items: list[asm.Item] = [
        asm.mov_reg(R6, R1),
        asm.load(Size.U32, R7, R6, _DATA),
        asm.load(Size.U32, R2, R6, _DATA_END),
        asm.mov_reg(R3, R7),
        asm.alu_imm(Alu.ADD, R3, LOOK_BYTES),
        asm.jump_reg(Jump.GT, R3, R2, "none"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R7),
        asm.alu_imm(Alu.ADD, R2, _TUPLE_AT),
        asm.mov_imm(R3, tuple_bytes),
        asm.mov_imm(R4, _NAMESPACE_OF_THE_PACKET),
        asm.mov_imm(R5, 0),
        asm.call(Helper.SKC_LOOKUP_TCP),
        asm.jump_imm(Jump.EQ, R0, 0, "none"),
        asm.mov_reg(R8, R0),
        asm.mov_reg(R1, R8),
        asm.call(Helper.SKC_TO_TCP_SOCK),
        asm.jump_imm(Jump.EQ, R0, 0, "ending"),
        asm.mov_reg(R9, R0),
    ]
    for number, one in enumerate(where.of_tcp):
        items += [*load(R2, R9, one), asm.store_reg(Size.U64, R7, _FOUND_AT + 8 * number, R2)]
    return asm.assemble(
        [
            *items,
            *_filter_id(where.to_filter),
            asm.store_reg(Size.U64, R7, _FOUND_AT + 8 * len(where.of_tcp), R2),
            *_note(where.cookie, notes),
            asm.mov_reg(R1, R8),
            asm.call(Helper.SK_RELEASE),
            asm.mov_imm(R0, THERE),
            asm.leave(),
            asm.Label("ending"),
            asm.mov_reg(R1, R8),
            asm.call(Helper.SK_RELEASE),
            asm.mov_imm(R0, ENDING),
            asm.leave(),
            asm.Label("none"),
            asm.mov_imm(R0, NOBODY),
            asm.leave(),
        ]
    )


def _filter_id(way: list[Field]) -> list[asm.Item]:
    """In R2 the number of the program; CLASSIC is what has no number."""
    items: list[asm.Item] = [asm.mov_reg(R3, R9)]
    for one in way[:-1]:
        items += [
            asm.mov_imm(R2, 0),
            *load(R3, R3, one),
            asm.jump_imm(Jump.EQ, R3, 0, "filter known"),
        ]
    return [
        *items,
        *load(R2, R3, way[-1]),
        asm.jump_imm(Jump.NE, R2, 0, "filter known"),
        asm.alu32_imm(Alu.MOV, R2, -1),
        asm.Label("filter known"),
    ]


def _note(cookie: Field, notes: int) -> list[asm.Item]:
    copy: list[asm.Item] = []
    for at in range(0, NOTE_BYTES, 8):
        copy += [asm.load(Size.U64, R2, R0, at), asm.store_reg(Size.U64, R7, _NOTE_AT + at, R2)]
    return [
        *load(R2, R9, cookie),
        asm.store_reg(Size.U64, FP, -8, R2),
        asm.load_map(R1, notes),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, -8),
        asm.call(Helper.MAP_LOOKUP_ELEM),
        asm.jump_imm(Jump.EQ, R0, 0, "not noted"),
        *copy,
        asm.Label("not noted"),
    ]


def load(target: int, source: int, where: Field) -> list[asm.Item]:
    """A field of what ``source`` points to."""
    loading: list[asm.Item] = [asm.load(where.size, target, source, where.offset)]
    if not where.whole:
        loading += [
            asm.alu_imm(Alu.RSH, target, where.shift),
            asm.alu_imm(Alu.AND, target, (1 << where.bits) - 1),
        ]
    return loading
