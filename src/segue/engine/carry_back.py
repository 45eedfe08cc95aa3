# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""What was dropped while a connection was carried, so that it can be given back.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the filter is, of which it is a part (``engine/carry_notes.py``).

A client sends again what was dropped, but not before a fifth of a second.  So the filter keeps the
packet, and whoever carries sends it once more, when somebody has the connection again.  A packet
that is kept twice, or comes in both ways, is no more than one that comes twice.
"""

from __future__ import annotations

import ipaddress

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R6, R7, R8, R9, Alu, Helper, Jump, Size
from segue.engine import carry_waiting
from segue.wire import checksum, ipv4, ipv6

MOST = 2048  # bytes of a segment; a longer one comes again by itself
RING_BYTES = 1 << 18
# In a record, after the length of the segment.
_HEADER_AT, _SEGMENT_AT = 8, 48
_NO_WAKE_UP = 1  # BPF_RB_NO_WAKEUP
_SKB_LEN = 0  # in struct __sk_buff


def keep(ring: int, place: int, after: str) -> list[asm.Item]:
    """Instructions of a filter that keep the packet in R6, by the descriptor of the ring buffer.

    ``place`` is room on the stack; on to ``after``, also if it cannot be kept.
    """
    return [
        *carry_waiting.from_header(0, FP, place, 1, after),
        asm.load(Size.U8, R7, FP, place),
        asm.alu_imm(Alu.RSH, R7, 4),
        asm.load(Size.U32, R9, R6, _SKB_LEN),
        asm.jump_imm(Jump.EQ, R9, 0, after),
        asm.jump_imm(Jump.GT, R9, MOST, after),
        asm.load_map(R1, ring),
        asm.mov_imm(R2, _SEGMENT_AT + MOST),
        asm.mov_imm(R3, 0),
        asm.call(Helper.RINGBUF_RESERVE),
        asm.jump_imm(Jump.EQ, R0, 0, after),
        asm.mov_reg(R8, R0),
        asm.store_reg(Size.U64, R8, 0, R9),
        asm.jump_imm(Jump.EQ, R7, 6, "keep IPv6"),
        *carry_waiting.from_header(0, R8, _HEADER_AT, ipv4.SHORTEST, "not kept"),
        asm.jump("keep segment"),
        asm.Label("keep IPv6"),
        *carry_waiting.from_header(0, R8, _HEADER_AT, ipv6.HEADER, "not kept"),
        asm.Label("keep segment"),
        # Its data may be in other pieces of memory than the header, which this takes too.
        asm.mov_reg(R1, R6),
        asm.mov_imm(R2, 0),
        asm.mov_reg(R3, R8),
        asm.alu_imm(Alu.ADD, R3, _SEGMENT_AT),
        asm.mov_reg(R4, R9),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "not kept"),
        asm.mov_reg(R1, R8),
        asm.mov_imm(R2, _NO_WAKE_UP),
        asm.call(Helper.RINGBUF_SUBMIT),
        asm.jump(after),
        asm.Label("not kept"),
        asm.mov_reg(R1, R8),
        asm.mov_imm(R2, _NO_WAKE_UP),
        asm.call(Helper.RINGBUF_DISCARD),
        asm.jump(after),
    ]


def packet(record: bytes) -> tuple[bytes, str] | None:
    """What was kept, with a new header of IP, and the address that it goes to.

    None where it has come damaged.
    """
    size = int.from_bytes(record[:_HEADER_AT], "little")
    header, segment = record[_HEADER_AT:_SEGMENT_AT], record[_SEGMENT_AT : _SEGMENT_AT + size]
    six = header[0] >> 4 == 6
    addresses = header[8:40] if six else header[12:20]
    tos = int.from_bytes(header[:2], "big") >> 4 & 0xFF if six else header[1]
    sent = checksum.completed(addresses, segment)
    if sent is None:
        return None
    emit = ipv6.emit if six else ipv4.emit
    target = ipaddress.ip_address(addresses[len(addresses) // 2 :])
    return emit(addresses, ipv4.TCP, sent, tos=tos), str(target)
