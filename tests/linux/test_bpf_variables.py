"""Variables of a program in our memory: read, written one at a time, or constant."""

from __future__ import annotations

import errno

import pytest

from segue.bpf import asm
from segue.bpf.insn import LD_IMM64, PSEUDO_MAP_VALUE, R0, R1, R2, Instruction, Size
from segue.errors import KernelError, UsageError
from segue.linux.bpf import Program
from segue.linux.bpf_variables import Variables

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def test_variables_begin_as_told_and_change_one_by_one() -> None:
    """What stands beside is not touched."""
    with Variables.begin(bytes(range(24)), name="mine") as made:
        assert made.read(8, 4) == bytes([8, 9, 10, 11])
        made.write(8, b"abcd")
        assert made.lookup(bytes(4)) == bytes(range(8)) + b"abcd" + bytes(range(12, 24))
        made.update(bytes(4), bytes(24))
        assert made.read(0, 24) == bytes(24)
        assert made.info().name == "mine"


def test_more_than_a_page_is_mapped_whole() -> None:
    """To the last byte."""
    with Variables.begin(bytes(9000)) as made:
        made.write(8999, b"z")
        assert made.read(8998, 2) == b"\0z"


def test_beyond_the_end_is_nobodys() -> None:
    """Nor before the beginning."""
    with Variables.begin(bytes(24)) as made:
        for offset, size in ((24, 1), (-1, 4), (20, 8)):
            with pytest.raises(UsageError, match="of 24"):
                made.read(offset, size)
        with pytest.raises(UsageError, match="bytes 22 to 26 of 24"):
            made.write(22, b"abcd")


def test_constants_stay() -> None:
    """Not even the kernel writes for us, and a program that would is refused."""
    with Variables.begin(b"\1\2\3\4", constant=True) as made:
        assert made.read(1, 2) == b"\2\3"
        with pytest.raises(UsageError, match="constants"):
            made.write(0, b"x")
        with pytest.raises(KernelError) as refusal:
            made.update(bytes(4), bytes(4))
        assert refusal.value.errno == errno.EPERM
        place = Instruction(LD_IMM64, R1, PSEUDO_MAP_VALUE, 0, made.fileno())
        writes = [place, asm.mov_imm(R2, 1), asm.store_reg(Size.U32, R1, 0, R2)]
        with pytest.raises(KernelError, match="write into map forbidden"):
            Program.load(asm.assemble([*writes, asm.mov_imm(R0, 1), asm.leave()]))


def test_closed_is_closed() -> None:
    """Twice is no error."""
    made = Variables.begin(bytes(8))
    made.close()
    made.close()
    assert made.fileno() == -1
