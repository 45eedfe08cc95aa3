"""The interpreter: what it computes, and every step no verifier would allow."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bpf import asm, insn
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
    Alu,
    Helper,
    Instruction,
    Jump,
    Size,
)
from segue.bpf.interp import Context, Machine, Outcome
from segue.bpf.memory import PACKET, MapKind, MapMemory, Pointer, Region
from segue.errors import ProgramFault, UsageError

NUMBERS, SOCKETS, CELLS, RING = 3, 4, 5, 6
U64 = st.integers(0, (1 << 64) - 1)


def context() -> Context:
    """A context whose packet is four bytes, with a listener and nothing that migrates."""
    packet = Region(PACKET, bytearray(b"\x12\x34\x56\x78"))
    listener = Region("listener", bytearray(80))
    pointers = {0: Pointer(packet, 0), 8: Pointer(packet, 4), 40: Pointer(listener, 0)}
    metadata = Region("context", bytearray(56), pointers=pointers)
    return Context(metadata, b"\x45" + bytes(19) + bytes(packet.data), listener, 99)


def maps() -> dict[int, MapMemory]:
    """One of each kind, two elements each."""
    return {
        NUMBERS: MapMemory("numbers", MapKind.HASH, 4, 4, 2),
        SOCKETS: MapMemory("sockets", MapKind.SOCKETS, 4, 8, 2),
        CELLS: MapMemory("cells", MapKind.ARRAY, 4, 8, 2),
        RING: MapMemory("ring", MapKind.RING, 0, 0, 64),
    }


def run(*items: asm.Item, on: dict[int, MapMemory] | None = None) -> Outcome:
    """The outcome of these and an exit, with a listener in slot 1."""
    machine = Machine(
        asm.assemble([*items, asm.leave()]),
        on if on is not None else maps(),
        listening={1},
        clock=lambda: 7,
        chance=lambda: 1 << 40 | 5,
        cpu=3,
    )
    return machine.run(context())


def key(number: int) -> list[asm.Item]:
    """The key on the stack, its address in R2."""
    return [
        asm.store_imm(Size.U32, FP, -4, number),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, -4),
    ]


def lookup(descriptor: int, number: int) -> list[asm.Item]:
    """R0 = the element's address or 0."""
    return [*key(number), asm.load_map(R1, descriptor), asm.call(Helper.MAP_LOOKUP_ELEM)]


@given(st.sampled_from([Alu.ADD, Alu.SUB, Alu.MUL, Alu.DIV, Alu.MOD, Alu.XOR]), U64, U64)
def test_arithmetic_is_modulo_the_width(op: Alu, left: int, right: int) -> None:
    """And division by zero is zero, the remainder by it the dividend."""
    every: dict[Alu, Callable[[int, int], int]] = {
        Alu.ADD: lambda a, b: a + b,
        Alu.SUB: lambda a, b: a - b,
        Alu.MUL: lambda a, b: a * b,
        Alu.DIV: lambda a, b: a // b if b else 0,
        Alu.MOD: lambda a, b: a % b if b else a,
        Alu.XOR: lambda a, b: a ^ b,
    }
    plain = every[op]
    both: list[asm.Item] = [asm.mov_imm64(R0, left), asm.mov_imm64(R1, right)]
    low = (1 << 32) - 1
    assert run(*both, asm.alu_reg(op, R0, R1)).answer == plain(left, right) % (1 << 64)
    halves = plain(left & low, right & low) & low
    assert run(*both, asm.alu32_reg(op, R0, R1)).answer == halves


@given(U64, U64)
def test_signed_and_unsigned_comparisons_differ(left: int, right: int) -> None:
    """As the numbers read in one way and in the other do."""

    def taken(when: Jump) -> int:
        return run(
            asm.mov_imm64(R1, left),
            asm.mov_imm64(R2, right),
            asm.mov_imm(R0, 1),
            asm.jump_reg(when, R1, R2, "end"),
            asm.mov_imm(R0, 0),
            asm.Label("end"),
            asm.mov_reg(R0, R0),
        ).answer

    def signed(number: int) -> int:
        return number - (1 << 64) if number >> 63 else number

    assert taken(Jump.GT) == (left > right)
    assert taken(Jump.SGT) == (signed(left) > signed(right))
    assert taken(Jump.LE) == (left <= right)
    assert taken(Jump.SLE) == (signed(left) <= signed(right))
    assert taken(Jump.SET) == bool(left & right)


def test_helpers_answer_as_the_kernel_does() -> None:
    """With 0, an error below zero, or the number asked for."""
    below = (1 << 64) - errno.ENOENT
    select = [
        asm.mov_reg(R6, R1),
        *key(1),
        asm.mov_reg(R3, R2),
        asm.load_map(R2, SOCKETS),
        asm.mov_reg(R1, R6),
        asm.mov_imm(R4, 0),
        asm.call(Helper.SK_SELECT_REUSEPORT),
    ]
    outcome = run(*select)
    assert (outcome.answer, outcome.selected) == (0, 1)
    select[1] = asm.store_imm(Size.U32, FP, -4, 0)
    outcome = run(*select)
    assert (outcome.answer, outcome.selected) == (below, None)
    assert run(asm.call(Helper.KTIME_GET_NS)).answer == 7
    assert run(asm.call(Helper.GET_PRANDOM_U32)).answer == 5
    assert run(asm.call(Helper.GET_SMP_PROCESSOR_ID)).answer == 3
    cookie = [asm.load(Size.U64, R1, R1, 40), asm.call(Helper.GET_SOCKET_COOKIE)]
    assert run(*cookie).answer == 99


def test_maps_keep_what_fits() -> None:
    """A full hash, a key outside an array, one that is not there."""
    on = maps()

    def update(descriptor: int, number: int) -> int:
        return run(
            *key(number),
            asm.store_imm(Size.U64, FP, -16, number),
            asm.mov_reg(R3, FP),
            asm.alu_imm(Alu.ADD, R3, -16),
            asm.load_map(R1, descriptor),
            asm.mov_imm(R4, 0),
            asm.call(Helper.MAP_UPDATE_ELEM),
            on=on,
        ).answer

    full = (1 << 64) - errno.E2BIG
    assert [update(NUMBERS, number) for number in (8, 9, 10, 9)] == [0, 0, full, 0]
    assert [update(CELLS, number) for number in (0, 1, 2)] == [0, 0, full]
    assert run(*lookup(CELLS, 2), on=on).answer == 0
    read: list[asm.Item] = [*lookup(CELLS, 1), asm.load(Size.U64, R0, R0, 0)]
    assert run(*read, on=on).answer == 1


ENDLESS: list[asm.Item] = [asm.Label("again"), asm.mov_imm(R0, 0), asm.jump("again")]
FAULTS: list[tuple[list[asm.Item], str]] = [
    ([asm.mov_reg(R0, R7)], "r7 was never set"),
    ([asm.load(Size.U64, R0, FP, -8)], r"reads stack\[504\], which was never written"),
    ([asm.store_imm(Size.U64, FP, 0, 1)], r"reaches stack\[512:520\], which has 512 bytes"),
    ([asm.store_imm(Size.U64, FP, -520, 1)], r"reaches stack\[-8:0\]"),
    ([asm.store_imm(Size.U64, FP, -12, 1)], "is not aligned"),
    ([asm.mov_imm(FP, 1)], "r10 is read only"),
    ([asm.load(Size.U32, R0, R1, 56)], r"reaches context\[56:60\]"),
    ([asm.load(Size.U32, R0, R1, 0)], r"reads a part of the pointer at context\[0\]"),
    ([asm.store_imm(Size.U32, R1, 16, 1)], "writes to context, which is read only"),
    ([asm.load(Size.U64, R2, R1, 0), asm.load(Size.U32, R0, R2, 4)], r"reaches packet\[4:8\]"),
    ([asm.alu_reg(Alu.MUL, R1, R1)], "calculates MUL with a pointer"),
    ([asm.alu32_imm(Alu.ADD, R1, 1)], "calculates ADD with a pointer"),
    ([asm.mov_reg(R0, R1)], "r0 is a pointer, and a number is needed"),
    ([asm.jump_reg(Jump.GT, R1, FP, "end"), asm.Label("end")], "compares a pointer"),
    ([*lookup(NUMBERS, 1), asm.load(Size.U32, R0, R0, 0)], "r0 is 0, and a pointer is needed"),
    ([*lookup(CELLS, 1), asm.load(Size.U64, R0, R0, 8)], r"reaches map cells\[8:16\]"),
    ([*lookup(CELLS, 1), asm.store_reg(Size.U64, R0, 0, FP)], "where it would leak"),
    ([*lookup(SOCKETS, 1)], "looks into map sockets, which no program can"),
    ([asm.load_map(R1, 77)], "given an address that is not a map here"),
    ([asm.mov_imm(R1, 0), asm.call(Helper.MAP_LOOKUP_ELEM)], "r1 is not a map"),
    ([*lookup(NUMBERS, 1), asm.mov_reg(R0, R5)], "r5 was never set"),
    ([asm.call(Helper.TAIL_CALL)], "helper TAIL_CALL is not run here"),
    ([asm.call(9999)], "helper 9999 is unknown"),
    (
        [asm.load(Size.U64, R1, R1, 0), asm.call(Helper.GET_SOCKET_COOKIE)],
        "something that is not a socket",
    ),
    ([Instruction(insn.ALU64 | 0xF0)], "opcode 0xf7 is unknown"),
    ([Instruction(insn.ALU64 | Alu.DIV, off=1, imm=1)], "needs Linux 6.6"),
    (ENDLESS, "more than 1000000 steps"),
]


@pytest.mark.parametrize(("items", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_what_no_verifier_allows_is_a_fault(items: list[asm.Item], said: str) -> None:
    """With the slot it happens in."""
    # What follows a label must be an instruction, and an exit is one.
    with pytest.raises(ProgramFault, match=said) as fault:
        run(*items)
    assert fault.value.slot >= 0


@pytest.mark.parametrize(
    "program",
    [
        [],
        [asm.mov_imm(R0, 0)],
        [Instruction(insn.JMP | Jump.ALWAYS, off=5), asm.leave()],
        [Instruction(insn.JMP | Jump.ALWAYS, off=1), asm.mov_imm64(R0, 1), asm.leave()],
    ],
    ids=["nothing", "no end", "out of it", "into the middle"],
)
def test_what_is_no_program_is_refused(program: list[Instruction]) -> None:
    """Before it runs."""
    with pytest.raises(UsageError):
        Machine(program, {})
