# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""A classifier that reads what servers send: how far is each with its answer?

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the classifier that makes connections is: it is loaded beside it.

It sees what goes out at an interface, with the connection that sends it.  Where the filter has
noted a request of that (``engine/carry_notes.py``), it follows the answer from its first byte on,
in the words of ``observe/answer.py``.  What is sent again is no news, and behind a byte that was
not seen nothing is known until the next request.  What is read while it runs is in the note, not in
registers: a number that is known there would have each time of a loop verified.
"""

from __future__ import annotations

import socket

from segue.bpf import asm
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
from segue.engine import carry_head
from segue.engine.carry_head import AT_BLOCK, LINE_END, jump_if_word, line_end, small_word
from segue.engine.carry_notes import AT, LEFT, PHASE, SAID, SEEN, START, TO, WRITTEN
from segue.observe import request_head
from segue.observe.answer import BLOCK, Phase, Said
from segue.observe.request_head import Seen

BLOCK_BYTES = AT_BLOCK + BLOCK + 40
_NEXT = -1  # TCX_NEXT
# struct __sk_buff
_SKB_LEN, _PROTOCOL, _DATA, _DATA_END = 0, 16, 76, 80
_IPV4, _IPV6 = socket.htons(0x0800), socket.htons(0x86DD)
# On the stack: the cookie; the number that a byte at 0 of the packet would have; the packet; a key;
# a byte.
_COOKIE, _BASE, _CONTEXT, _ZERO, _BYTE = -8, -12, -24, -28, -32
_VERSION = 8  # bytes
_STATUS = AT_BLOCK + _VERSION
_BODILESS = (b" 204", b" 304")
_TUNNEL = b" 101"
_DIGITS = 15
_LONGEST_CHUNK_BITS = 40


def program(notes: int, block: int, header: int) -> list[Instruction]:
    """By the descriptors of its maps: the filter's notes, and a block for each processor.

    ``header`` is how many bytes the link has before a packet.
    """
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            *_segment(header),
            asm.mov_reg(R1, R6),
            asm.call(Helper.GET_SOCKET_COOKIE),
            asm.store_reg(Size.U64, FP, _COOKIE, R0),
            *asm.by_key(Helper.MAP_LOOKUP_ELEM, notes, _COOKIE),
            asm.jump_imm(Jump.EQ, R0, 0, "next"),
            asm.mov_reg(R7, R0),
            *_which_answer(),
            *_news(),
            *_next_byte(),
            asm.load(Size.U32, R2, R7, PHASE),
            asm.jump_imm(Jump.EQ, R2, Phase.LENGTH, "skip"),
            asm.jump_imm(Jump.EQ, R2, Phase.DATA, "skip"),
            asm.jump_imm(Jump.EQ, R2, Phase.HEAD, "head"),
            asm.jump_imm(Jump.EQ, R2, Phase.TORN, "unknown"),
            asm.jump_imm(Jump.GT, R2, Phase.HEAD, "byte"),
            asm.jump_imm(Jump.NE, R2, Phase.WHOLE, "to the end"),
            *_enter(Phase.MORE, "to the end"),
            *_skip(),
            *_byte(),
            *_head(block),
            asm.Label("unknown"),
            *_enter(Phase.UNKNOWN, "next"),
            asm.Label("to the end"),
            asm.load(Size.U32, R2, FP, _BASE),
            asm.alu_reg(Alu.ADD, R2, R9),
            asm.store_reg(Size.U32, R7, AT, R2),
            asm.Label("next"),
            asm.mov_imm(R0, _NEXT),
            asm.leave(),
        ]
    )


def _enter(phase: Phase, target: str) -> list[asm.Item]:
    return [asm.store_imm(Size.U32, R7, PHASE, phase), asm.jump(target)]


def _segment(header: int) -> list[asm.Item]:
    """In R8 where its payload begins, and on the stack what number 0 has.

    What has no payload, or options of IP, goes on.
    """
    items: list[asm.Item] = [
        asm.load(Size.U32, R4, R6, _DATA),
        asm.load(Size.U32, R5, R6, _DATA_END),
        asm.load(Size.U32, R2, R6, _PROTOCOL),
        asm.jump_imm(Jump.EQ, R2, _IPV4, "IPv4"),
        asm.jump_imm(Jump.NE, R2, _IPV6, "next"),
    ]
    for name, size, protocol in (("IPv6", 40, 6), ("IPv4", 20, 9)):
        items += [
            asm.Label(name),
            asm.mov_reg(R3, R4),
            asm.alu_imm(Alu.ADD, R3, header + size + 20),
            asm.jump_reg(Jump.GT, R3, R5, "next"),
            asm.load(Size.U8, R2, R4, header + protocol),
            asm.jump_imm(Jump.NE, R2, socket.IPPROTO_TCP, "next"),
        ]
        if name == "IPv4":
            items += [
                asm.load(Size.U8, R2, R4, header),
                asm.jump_imm(Jump.NE, R2, 0x45, "next"),
            ]
        items += [
            asm.load(Size.U8, R8, R4, header + size + 12),
            asm.alu_imm(Alu.RSH, R8, 4),
            asm.alu_imm(Alu.LSH, R8, 2),
            asm.alu_imm(Alu.ADD, R8, header + size),
            asm.load(Size.U32, R3, R4, header + size + 4),
            *([asm.jump("TCP")] if name == "IPv6" else []),
        ]
    return [
        *items,
        asm.Label("TCP"),
        asm.load(Size.U32, R9, R6, _SKB_LEN),
        asm.jump_reg(Jump.GE, R8, R9, "next"),
        asm.network_order(R3, 32),
        asm.alu_reg(Alu.SUB, R3, R8),
        asm.store_reg(Size.U32, FP, _BASE, R3),
    ]


def _which_answer() -> list[asm.Item]:
    """The first bytes after a request begin its answer."""
    return [
        asm.load(Size.U32, R2, R7, START),
        asm.load(Size.U32, R3, R7, PHASE),
        asm.jump_imm(Jump.EQ, R3, Phase.NONE, "another answer"),
        asm.load(Size.U32, R4, R7, TO),
        asm.jump_reg(Jump.EQ, R2, R4, "the same answer"),
        asm.Label("another answer"),
        asm.store_reg(Size.U32, R7, TO, R2),
        asm.load(Size.U32, R2, R7, WRITTEN),
        asm.store_reg(Size.U32, R7, AT, R2),
        asm.store_imm(Size.U32, R7, PHASE, Phase.HEAD),
        asm.Label("the same answer"),
    ]


def _news() -> list[asm.Item]:
    """Nothing is missing before what is here; on the stack what is needed of it."""
    return [
        asm.store_reg(Size.U64, FP, _CONTEXT, R6),
        asm.load(Size.U32, R3, FP, _BASE),
        asm.load(Size.U32, R2, R7, AT),
        asm.alu_reg(Alu.SUB, R2, R3),
        asm.alu_reg(Alu.SUB, R2, R8),
        asm.alu_imm(Alu.LSH, R2, 32),
        asm.alu_imm(Alu.ARSH, R2, 32),
        asm.jump_imm(Jump.SLT, R2, 0, "unknown"),
    ]


def _next_byte() -> list[asm.Item]:
    """In R8 the place of the first byte that was not seen before, in R9 where the payload ends."""
    return [
        asm.Label("more"),
        asm.may_goto("unknown"),
        asm.load(Size.U64, R6, FP, _CONTEXT),
        asm.load(Size.U32, R9, R6, _SKB_LEN),
        asm.load(Size.U32, R2, FP, _BASE),
        asm.load(Size.U32, R8, R7, AT),
        asm.alu_reg(Alu.SUB, R8, R2),
        asm.alu_imm(Alu.LSH, R8, 32),
        asm.alu_imm(Alu.RSH, R8, 32),
        asm.jump_reg(Jump.GE, R8, R9, "next"),
    ]


def _advance(by: int | None) -> list[asm.Item]:
    """So many bytes of it were seen, in a register; None for one.  R5 is lost."""
    return [
        asm.load(Size.U32, R5, R7, AT),
        asm.alu_imm(Alu.ADD, R5, 1) if by is None else asm.alu_reg(Alu.ADD, R5, by),
        asm.store_reg(Size.U32, R7, AT, R5),
    ]


def _skip() -> list[asm.Item]:
    """What is not looked at, as far as it is there."""
    return [
        asm.Label("skip"),
        asm.load(Size.U64, R2, R7, LEFT),
        asm.mov_reg(R3, R9),
        asm.alu_reg(Alu.SUB, R3, R8),
        asm.jump_reg(Jump.GT, R2, R3, "not all of it"),
        *_advance(R2),
        asm.store_imm(Size.U64, R7, LEFT, 0),
        asm.load(Size.U32, R2, R7, PHASE),
        asm.jump_imm(Jump.EQ, R2, Phase.LENGTH, "whole"),
        *_enter(Phase.CHUNK, "more"),
        asm.Label("not all of it"),
        asm.alu_reg(Alu.SUB, R2, R3),
        asm.store_reg(Size.U64, R7, LEFT, R2),
        asm.jump("to the end"),
        asm.Label("whole"),
        *_enter(Phase.WHOLE, "more"),
    ]


def _byte() -> list[asm.Item]:
    """One byte of what is between the data of chunks."""
    return [
        asm.Label("byte"),
        *_load(R8, _BYTE, 1),
        *_advance(None),
        asm.load(Size.U8, R2, FP, _BYTE),
        asm.load(Size.U32, R3, R7, PHASE),
        asm.jump_imm(Jump.LE, R3, Phase.SIZE, "size"),
        asm.jump_imm(Jump.EQ, R3, Phase.EXTENSION, "extension"),
        asm.jump_imm(Jump.EQ, R3, Phase.FIELD, "field"),
        asm.jump_imm(Jump.EQ, R3, Phase.TRAILER, "trailer"),
        asm.jump_imm(Jump.EQ, R2, ord("\n"), "whole"),
        asm.jump("unknown"),
        asm.Label("trailer"),
        asm.jump_imm(Jump.EQ, R2, ord("\r"), "last line"),
        asm.jump_imm(Jump.EQ, R2, ord("\n"), "unknown"),
        *_enter(Phase.FIELD, "more"),
        asm.Label("last line"),
        *_enter(Phase.LAST, "more"),
        asm.Label("field"),
        asm.jump_imm(Jump.NE, R2, ord("\n"), "more"),
        asm.Label("line read"),
        *_enter(Phase.TRAILER, "more"),
        asm.Label("extension"),
        asm.jump_imm(Jump.NE, R2, ord("\n"), "more"),
        asm.Label("size read"),
        asm.load(Size.U64, R4, R7, LEFT),
        asm.jump_imm(Jump.EQ, R4, 0, "line read"),
        asm.alu_imm(Alu.ADD, R4, 2),  # the end of its line
        asm.store_reg(Size.U64, R7, LEFT, R4),
        *_enter(Phase.DATA, "more"),
        asm.Label("size"),
        asm.mov_reg(R4, R2),
        asm.alu_imm(Alu.SUB, R4, ord("0")),
        asm.jump_imm(Jump.LE, R4, 9, "digit"),
        asm.mov_reg(R4, R2),
        asm.alu_imm(Alu.OR, R4, 0x20),
        asm.alu_imm(Alu.SUB, R4, ord("a")),
        asm.jump_imm(Jump.LE, R4, 5, "letter"),
        asm.jump_imm(Jump.NE, R3, Phase.SIZE, "unknown"),
        asm.jump_imm(Jump.EQ, R2, ord("\n"), "size read"),
        asm.jump_imm(Jump.EQ, R2, ord("\r"), "size ends"),
        asm.jump_imm(Jump.EQ, R2, ord(";"), "size ends"),
        asm.jump_imm(Jump.NE, R2, ord(" "), "unknown"),
        asm.Label("size ends"),
        *_enter(Phase.EXTENSION, "more"),
        asm.Label("letter"),
        asm.alu_imm(Alu.ADD, R4, 10),
        asm.Label("digit"),
        asm.load(Size.U64, R5, R7, LEFT),
        asm.alu_imm(Alu.LSH, R5, 4),
        asm.alu_reg(Alu.ADD, R5, R4),
        asm.store_reg(Size.U64, R7, LEFT, R5),
        asm.alu_imm(Alu.RSH, R5, _LONGEST_CHUNK_BITS),
        asm.jump_imm(Jump.NE, R5, 0, "unknown"),
        *_enter(Phase.SIZE, "more"),
    ]


def _load(at: int, place: int, count: int) -> list[asm.Item]:
    """So many bytes of the packet from there on, to a place on the stack."""
    return [
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, at),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, place),
        asm.mov_imm(R4, count),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "unknown"),
    ]


def _head(block: int) -> list[asm.Item]:
    """A head in one piece: in R6 the block, in R8 how many bytes of it count."""
    return [
        asm.Label("head"),
        asm.store_imm(Size.U64, R7, LEFT, 0),
        asm.store_imm(Size.U32, R7, SAID, 0),
        asm.store_imm(Size.U32, FP, _ZERO, 0),
        *asm.by_key(Helper.MAP_LOOKUP_ELEM, block, _ZERO),
        asm.jump_imm(Jump.EQ, R0, 0, "unknown"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R6, R0),
        asm.mov_reg(R2, R8),
        asm.mov_reg(R8, R9),
        asm.alu_reg(Alu.SUB, R8, R2),
        asm.jump_imm(Jump.LE, R8, BLOCK, "as long as it is"),
        asm.mov_imm(R8, BLOCK),
        asm.Label("as long as it is"),
        asm.jump_imm(Jump.LT, R8, 1, "unknown"),
        asm.mov_reg(R3, R6),
        asm.alu_imm(Alu.ADD, R3, AT_BLOCK),
        asm.mov_reg(R4, R8),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "unknown"),
        *_status_line(),
        *_fields(),
        asm.Label("an empty line"),
        asm.alu_imm(Alu.ADD, R1, len(b"\r\n\r\n")),
        asm.jump_reg(Jump.GT, R1, R8, "torn"),
        *_advance(R1),
        *_body(),
        asm.Label("torn"),
        asm.jump_imm(Jump.GE, R8, BLOCK, "unknown"),
        *_enter(Phase.TORN, "to the end"),
    ]


def _status_line() -> list[asm.Item]:
    return [
        asm.load(Size.U64, R2, R6, AT_BLOCK),
        asm.mov_imm64(R3, int.from_bytes(request_head.KEPT, "little")),
        asm.jump_reg(Jump.NE, R2, R3, "unknown"),
        # Zero: nobody writes there.
        asm.load(Size.U32, R1, R6, BLOCK_BYTES - 4),
        *line_end("in the status line", "torn", BLOCK),
        asm.jump_imm(Jump.LT, R1, _VERSION + len(_TUNNEL), "unknown"),
        asm.load(Size.U32, R3, R6, _STATUS),
        *(
            asm.jump_imm(Jump.EQ, R3, int.from_bytes(status, "little"), "no body")
            for status in _BODILESS
        ),
        asm.jump_imm(Jump.EQ, R3, int.from_bytes(_TUNNEL, "little"), "tunnel"),
        asm.alu_imm(Alu.AND, R3, 0xFFFF),
        asm.jump_imm(Jump.NE, R3, int.from_bytes(b" 1", "little"), "in the fields"),
        *_says(Said.INTERIM, "in the fields"),
        asm.Label("no body"),
        *_says(Said.BODILESS, "in the fields"),
        asm.Label("tunnel"),
        *_enter(Phase.TUNNEL, "to the end"),
    ]


def _says(said: Said, target: str) -> list[asm.Item]:
    return [
        asm.load(Size.U32, R5, R7, SAID),
        asm.alu_imm(Alu.OR, R5, said),
        asm.store_reg(Size.U32, R7, SAID, R5),
        asm.jump(target),
    ]


def _fields() -> list[asm.Item]:
    """The three that say where it ends."""
    at = AT_BLOCK + 2
    first, second = request_head.LENGTH
    return [
        *line_end("in the fields", "torn", BLOCK),
        asm.load(Size.U32, R3, R2, AT_BLOCK),
        asm.jump_imm(Jump.EQ, R3, LINE_END, "an empty line"),
        *small_word(R2, at),
        *jump_if_word(first, "has content-"),
        *jump_if_word(b"transfer", "has transfer"),
        *jump_if_word(b"connecti", "has connecti"),
        asm.Label("next field"),
        asm.alu_imm(Alu.ADD, R1, 1),
        asm.jump("in the fields"),
        asm.Label("has connecti"),
        *small_word(R2, at + 8),
        *jump_if_word(b"on: clos", "closes"),
        *jump_if_word(b"on:close", "closes"),
        asm.jump("next field"),
        asm.Label("closes"),
        *_says(Said.CLOSE, "next field"),
        asm.Label("has transfer"),
        *small_word(R2, at + 8),
        *jump_if_word(b"-encodin", "a coding"),
        asm.jump("next field"),
        asm.Label("a coding"),
        asm.load(Size.U16, R3, R2, at + 16),
        asm.alu_imm(Alu.OR, R3, 0x20),
        asm.jump_imm(Jump.NE, R3, int.from_bytes(b"g:", "little"), "next field"),
        *_value(at + 18),
        *small_word(R4, 0),
        *jump_if_word(b"chunked\r", "chunked"),
        asm.jump("strange"),
        asm.Label("chunked"),
        *_says(Said.CHUNKED, "next field"),
        asm.Label("strange"),
        *_says(Said.STRANGE, "next field"),
        asm.Label("has content-"),
        *small_word(R2, at + 8),
        *carry_head.jump_unless_length(second, "next field"),
        *_length(at + 15),
    ]


def _value(at: int) -> list[asm.Item]:
    """In R4 where the value of a field begins, behind a space or none."""
    return [
        asm.mov_reg(R4, R2),
        asm.alu_imm(Alu.ADD, R4, at),
        asm.load(Size.U8, R3, R4, 0),
        asm.jump_imm(Jump.NE, R3, ord(" "), f"value at {at}"),
        asm.alu_imm(Alu.ADD, R4, 1),
        asm.Label(f"value at {at}"),
    ]


def _length(at: int) -> list[asm.Item]:
    """The digits behind Content-Length, which stands once."""
    digits: list[asm.Item] = []
    for number in range(_DIGITS + 1):
        digits += [
            asm.load(Size.U8, R3, R4, 0),
            asm.alu_imm(Alu.SUB, R3, ord("0")),
            asm.jump_imm(Jump.GT, R3, 9, "length read" if number else "strange"),
            asm.alu_imm(Alu.MUL, R5, 10),
            asm.alu_reg(Alu.ADD, R5, R3),
            asm.alu_imm(Alu.ADD, R4, 1),
        ]
    return [
        asm.load(Size.U32, R3, R7, SAID),
        asm.jump_imm(Jump.SET, R3, Said.LENGTH, "strange"),
        *_value(at),
        asm.mov_imm(R5, 0),
        *digits,
        asm.jump("strange"),
        asm.Label("length read"),
        asm.store_reg(Size.U64, R7, LEFT, R5),
        asm.load(Size.U8, R3, R4, 0),
        asm.jump_imm(Jump.NE, R3, ord("\r"), "strange"),
        *_says(Said.LENGTH, "next field"),
    ]


def _body() -> list[asm.Item]:
    """What follows the head."""
    return [
        asm.load(Size.U32, R2, R7, SAID),
        asm.jump_imm(Jump.SET, R2, Said.STRANGE, "unknown"),
        asm.jump_imm(Jump.SET, R2, Said.INTERIM, "more"),
        asm.jump_imm(Jump.SET, R2, Said.BODILESS, "whole"),
        asm.load(Size.U32, R3, R7, SEEN),
        asm.jump_imm(Jump.SET, R3, Seen.HEAD, "whole"),
        asm.jump_imm(Jump.SET, R2, Said.CHUNKED, "in chunks"),
        asm.jump_imm(Jump.SET, R2, Said.LENGTH, "by length"),
        *_enter(Phase.UNTIL_CLOSE, "to the end"),
        asm.Label("by length"),
        asm.load(Size.U64, R2, R7, LEFT),
        asm.jump_imm(Jump.EQ, R2, 0, "whole"),
        *_enter(Phase.LENGTH, "more"),
        asm.Label("in chunks"),
        asm.store_imm(Size.U64, R7, LEFT, 0),
        *_enter(Phase.CHUNK, "more"),
    ]
