# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""Which connections a process has open, in one go: what it has accepted, and what it has closed.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the classifier is: the kernel lets only such programs write what a reader gets.

For as long as somebody else has a duplicate of a connection, nothing tells that its owner has
closed it: no packet, no event, no state.  Only the table of the owner's files does.  The kernel
goes through that itself, in 0.7 us for each file; links in /proc/PID/fd take 20 to 30.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from segue.bpf import asm
from segue.bpf.btf import Btf
from segue.bpf.btf_fields import field, function
from segue.bpf.insn import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R6,
    R7,
    R8,
    Alu,
    Helper,
    Instruction,
    Jump,
    Size,
)
from segue.engine import carry_classifier, carry_facts
from segue.engine.carry_look import COMMON, load
from segue.linux import bpf_iter
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType
from segue.linux.closing import Closing
from segue.observe.carrying import ESTABLISHED

# struct bpf_iter__task_file, and struct bpf_iter_meta
_META, _NUMBER, _FILE = 0, 16, 24
_SEQUENCE = 0
_RECORD_BYTES = 16  # cookie, number, local port


class Place(NamedTuple):
    """Where a process has a connection."""

    number: int  # of the descriptor
    port: int  # its own


class Sockets(Closing):
    """The program; it can be asked of any process, and does nothing otherwise."""

    def __init__(self) -> None:
        """Takes a third of a second.  Raises NotSupported, VerifierError, KernelError."""
        types = carry_facts.types()
        with ExitStack() as stack:
            self._program = stack.enter_context(
                Program.load(
                    program(types),
                    name="segue_sockets",
                    attach_type=AttachType.ITERATOR,
                    license_text=carry_classifier.LICENSE,
                    target=function(types, bpf_iter.FILES, "Linux 5.8 or later"),
                )
            )
            self._owned = stack.pop_all()

    def established(self, pid: int) -> dict[int, Place]:
        """The TCP connections of a process that both sides have open, by cookie.

        {} when it has ended.  One that it has twice has its last number.  Raises KernelError.
        """
        words = memoryview(bpf_iter.of_files(self._program, pid)).cast("Q")
        return {
            cookie: Place(both & 0xFFFFFFFF, both >> 32)
            for cookie, both in zip(words[0::2], words[1::2], strict=True)
        }

    def close(self) -> None:
        """Close the program; twice is no error."""
        self._owned.close()


def program(types: Btf) -> list[Instruction]:
    """It writes a record for each file that is an established TCP connection.

    Raises NotSupported.
    """
    state = field(types, "tcp_sock", f"{COMMON}skc_state")
    port = field(types, "tcp_sock", f"{COMMON}skc_num")
    # A pointer, which is looked for as the number that it is.
    inside = field(types, "socket", "sk")
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            asm.load(Size.U64, R1, R6, _FILE),
            asm.jump_imm(Jump.EQ, R1, 0, "next"),  # the end of the files
            asm.call(Helper.SOCK_FROM_FILE),
            asm.jump_imm(Jump.EQ, R0, 0, "next"),
            *load(R7, R0, inside),
            asm.jump_imm(Jump.EQ, R7, 0, "next"),
            asm.mov_reg(R1, R7),
            asm.call(Helper.SKC_TO_TCP_SOCK),
            asm.jump_imm(Jump.EQ, R0, 0, "next"),
            asm.mov_reg(R8, R0),
            *load(R2, R8, state),
            asm.jump_imm(Jump.NE, R2, ESTABLISHED, "next"),
            *load(R2, R8, port),
            asm.store_reg(Size.U32, FP, -4, R2),
            asm.load(Size.U32, R2, R6, _NUMBER),
            asm.store_reg(Size.U32, FP, -8, R2),
            asm.mov_reg(R1, R7),
            asm.call(Helper.GET_SOCKET_COOKIE),
            asm.store_reg(Size.U64, FP, -16, R0),
            asm.load(Size.U64, R1, R6, _META),
            asm.load(Size.U64, R1, R1, _SEQUENCE),
            asm.mov_reg(R2, FP),
            asm.alu_imm(Alu.ADD, R2, -_RECORD_BYTES),
            asm.mov_imm(R3, _RECORD_BYTES),
            asm.call(Helper.SEQ_WRITE),
            asm.Label("next"),
            asm.mov_imm(R0, 0),
            asm.leave(),
        ]
    )
