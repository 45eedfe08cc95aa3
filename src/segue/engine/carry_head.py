# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""The head of a request, read in the kernel: ``observe/request_head.py`` as instructions.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the classifier is: it is a part of the filter in ``engine/carry_notes.py``.

Eight bytes at a time are looked at for the end of a line; only there are words compared.
"""

from __future__ import annotations

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R5, R6, R8, R9, Alu, Jump, Size
from segue.observe import request_head
from segue.observe.request_head import BLOCK, Seen

# A block of payload, behind as many bytes as a version has and before as many as a header, with its
# value, is looked at.
AT_BLOCK = 8
BLOCK_BYTES = AT_BLOCK + BLOCK + 40
_WORD, _CR = 8, 0x0D
LINE_END = int.from_bytes(b"\r\n\r\n", "little")
_LOW, _HIGH = 0x0101010101010101, 0x8080808080808080
_SMALL = 0x2020202020202020


def read(start: int, body: int, end: int) -> list[asm.Item]:
    """Instructions that read what ``request_head.read`` does.

    In R6 is the block and in R8 how many bytes of it count; in R9 is left what was seen.  The
    others are lost but R7.  On the stack ``start`` has the number of the first byte; there are left
    at ``body`` (64 bits) how long the body is, and at ``end`` the number after the last byte.
    """
    return [
        asm.mov_imm(R9, 0),
        asm.store_imm(Size.U64, FP, body, 0),
        asm.store_imm(Size.U32, FP, end, 0),
        *_first_words(),
        *_request_line(),
        *_header_lines(body),
        *_end_of_head(start, body, end),
    ]


def _first_words() -> list[asm.Item]:
    return [
        asm.load(Size.U64, R2, R6, AT_BLOCK),
        asm.mov_imm64(R3, int.from_bytes(request_head.PREFACE, "little")),
        asm.jump_reg(Jump.NE, R2, R3, "no preface"),
        asm.alu_imm(Alu.OR, R9, Seen.PREFACE),
        asm.jump("unfinished"),
        asm.Label("no preface"),
        asm.load(Size.U32, R2, R6, AT_BLOCK),
        *(
            asm.jump_imm(Jump.EQ, R2, int.from_bytes(method, "little"), f"method {method!r}")
            for method in request_head.METHODS_SEEN
        ),
        asm.jump("line"),
        *(
            item
            for method, seen in request_head.METHODS_SEEN.items()
            for item in (
                asm.Label(f"method {method!r}"),
                asm.alu_imm(Alu.OR, R9, seen),
                asm.jump("line"),
            )
        ),
        asm.Label("line"),
    ]


def _request_line() -> list[asm.Item]:
    return [
        # Zero: nobody writes there.  A number that is known would have each time verified.
        asm.load(Size.U32, R1, R6, BLOCK_BYTES - 4),
        *line_end("in the request line", "unfinished", BLOCK),
        asm.load(Size.U64, R3, R2, 0),  # what is before it
        asm.mov_imm64(R4, int.from_bytes(request_head.KEPT, "little")),
        asm.jump_reg(Jump.EQ, R3, R4, "of HTTP"),
        asm.mov_imm64(R4, int.from_bytes(request_head.ENDED, "little")),
        asm.jump_reg(Jump.NE, R3, R4, "unfinished"),
        asm.alu_imm(Alu.OR, R9, Seen.LAST),
        asm.Label("of HTTP"),
        asm.alu_imm(Alu.OR, R9, Seen.LINE),
    ]


def _header_lines(body: int) -> list[asm.Item]:
    pairs: dict[bytes, dict[bytes, Seen]] = {}
    for words, seen in request_head.PAIRS.items():
        pairs.setdefault(words[:_WORD], {})[words[_WORD:]] = seen
    items: list[asm.Item] = [
        *line_end("in the head", "unfinished", BLOCK),
        asm.load(Size.U32, R3, R2, AT_BLOCK),
        asm.jump_imm(Jump.EQ, R3, LINE_END, "an empty line"),
        asm.Label("a header"),
        *small_word(R2, AT_BLOCK + 2),
    ]
    found = {*request_head.HEADERS.values(), *request_head.PAIRS.values()}
    for name, seen in request_head.HEADERS.items():
        items += jump_if_word(name, f"has {seen.name}")
    for name in (*pairs, request_head.LENGTH[0]):
        items += jump_if_word(name, f"has {name!r}")
    items += [asm.Label("next line"), asm.alu_imm(Alu.ADD, R1, 1), asm.jump("in the head")]
    for seen in sorted(found):
        items += [
            asm.Label(f"has {seen.name}"),
            asm.alu_imm(Alu.OR, R9, seen),
            asm.jump("next line"),
        ]
    for name, values in pairs.items():
        items += [asm.Label(f"has {name!r}"), *small_word(R2, AT_BLOCK + 2 + _WORD)]
        for value, seen in values.items():
            items += jump_if_word(value, f"has {seen.name}")
        items += [asm.jump("next line")]
    items += _body_length(body)
    return items


def small_word(block: int, at: int) -> list[asm.Item]:
    """In R3 eight bytes of what a register points to, in small letters; R4 is lost."""
    return [
        asm.load(Size.U64, R3, block, at),
        asm.mov_imm64(R4, _SMALL),
        asm.alu_reg(Alu.OR, R3, R4),
    ]


def jump_if_word(word: bytes, target: str) -> list[asm.Item]:
    """Go there if R3 has these eight bytes, as ``small_word`` leaves them; R4 is lost."""
    return [
        asm.mov_imm64(R4, int.from_bytes(word, "little") | _SMALL),
        asm.jump_reg(Jump.EQ, R3, R4, target),
    ]


def _end_of_head(start: int, body: int, end: int) -> list[asm.Item]:
    first = [int.from_bytes(method, "little") for method in request_head.BODILESS]
    return [
        asm.Label("an empty line"),
        asm.mov_reg(R3, R1),
        asm.alu_imm(Alu.ADD, R3, 4),
        asm.jump_reg(Jump.GT, R3, R8, "a header"),  # of an earlier block, in part
        asm.load(Size.U64, R4, FP, body),
        asm.alu_reg(Alu.ADD, R4, R3),
        asm.load(Size.U32, R5, FP, start),
        asm.alu_reg(Alu.ADD, R4, R5),
        asm.store_reg(Size.U32, FP, end, R4),
        asm.jump_reg(Jump.EQ, R3, R8, "read"),
        asm.load(Size.U32, R2, R6, AT_BLOCK),
        *(asm.jump_imm(Jump.EQ, R2, one, "more") for one in first),
        asm.jump("read"),
        asm.Label("more"),
        asm.alu_imm(Alu.OR, R9, Seen.EARLY),
        asm.jump("read"),
        asm.Label("unfinished"),
        asm.alu_imm(Alu.OR, R9, Seen.UNFINISHED),
        asm.Label("read"),
    ]


def _body_length(body: int) -> list[asm.Item]:
    """The digits of Content-Length; no body is as long as what cannot be read."""
    first, second = request_head.LENGTH
    digits: list[asm.Item] = []
    for _ in range(request_head.DIGITS):
        digits += [
            asm.load(Size.U8, R3, R4, 0),
            asm.alu_imm(Alu.SUB, R3, ord("0")),
            asm.jump_imm(Jump.GT, R3, 9, "length read"),
            asm.alu_imm(Alu.MUL, R5, 10),
            asm.alu_reg(Alu.ADD, R5, R3),
            asm.alu_imm(Alu.ADD, R4, 1),
        ]
    return [
        asm.Label(f"has {first!r}"),
        *small_word(R2, AT_BLOCK + 2 + _WORD),
        *jump_unless_length(second, "next line"),
        asm.mov_reg(R4, R2),
        asm.alu_imm(Alu.ADD, R4, AT_BLOCK + 17),
        asm.load(Size.U8, R3, R4, 0),
        asm.jump_imm(Jump.NE, R3, ord(" "), "no space"),
        asm.alu_imm(Alu.ADD, R4, 1),
        asm.Label("no space"),
        asm.mov_imm(R5, 0),
        asm.load(Size.U8, R3, R4, 0),
        asm.alu_imm(Alu.SUB, R3, ord("0")),
        asm.jump_imm(Jump.GT, R3, 9, "no length"),
        *digits,
        asm.load(Size.U8, R3, R4, 0),
        asm.alu_imm(Alu.SUB, R3, ord("0")),
        asm.jump_imm(Jump.GT, R3, 9, "length read"),
        asm.Label("no length"),
        asm.mov_imm(R5, 0),
        asm.alu_imm(Alu.OR, R9, Seen.CHUNKED),
        asm.Label("length read"),
        asm.store_reg(Size.U64, FP, body, R5),
        asm.jump("next line"),
    ]


def jump_unless_length(word: bytes, target: str) -> list[asm.Item]:
    """Go there unless R3 begins with these seven bytes, as ``small_word`` leaves them."""
    return [
        asm.alu_imm(Alu.LSH, R3, 8),
        asm.mov_imm64(R4, (int.from_bytes(word, "little") | _SMALL >> 8) << 8),
        asm.jump_reg(Jump.NE, R3, R4, target),
    ]


def line_end(here: str, missing: str, most: int) -> list[asm.Item]:
    """From R1 on, the place of the next CR; in R2 the block from there on.

    In R6 is the block and in R8 how many bytes of it count, of which ``most`` are looked at.
    """
    return [
        asm.Label(here),
        asm.may_goto(missing),
        asm.jump_imm(Jump.GE, R1, most, missing),
        asm.jump_reg(Jump.GE, R1, R8, missing),
        asm.mov_reg(R2, R6),
        asm.alu_reg(Alu.ADD, R2, R1),
        asm.load(Size.U64, R3, R2, AT_BLOCK),
        asm.mov_imm64(R4, _CR * _LOW),
        asm.alu_reg(Alu.XOR, R4, R3),
        # A byte of R4 is zero where one of R3 is CR: its highest bit comes up in R5.
        asm.mov_reg(R5, R4),
        asm.mov_imm64(R0, _LOW),
        asm.alu_reg(Alu.SUB, R5, R0),
        asm.alu_imm(Alu.XOR, R4, -1),
        asm.alu_reg(Alu.AND, R5, R4),
        asm.mov_imm64(R0, _HIGH),
        asm.jump_reg(Jump.SET, R5, R0, f"near, {here}"),
        asm.alu_imm(Alu.ADD, R1, 8),
        asm.jump(here),
        asm.Label(f"near, {here}"),
        asm.alu_imm(Alu.AND, R3, 0xFF),
        asm.jump_imm(Jump.EQ, R3, _CR, f"found, {here}"),
        asm.alu_imm(Alu.ADD, R1, 1),
        asm.jump(here),
        asm.Label(f"found, {here}"),
    ]
