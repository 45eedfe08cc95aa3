"""The program that sets SO_REUSEPORT for a server which binds and cannot be asked to.

It runs in bind(2), before the address is taken, for every process of a cgroup
(``__cgroup_bpf_run_filter_sock_addr``): one program for IPv4, one for IPv6, alike but for where
they are attached.  Only TCP sockets and only the ports named are touched; whatever comes of it,
the bind goes on, so that a server is never worse off than without.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R5, R6, R7, Alu, Helper, Instruction, Jump
from segue.bpf.insn import Size as Width
from segue.errors import UsageError

PORTS = 1024  # more than a supervisor has addresses, few enough for every verifier

# struct bpf_sock_addr (include/uapi/linux/bpf.h).
_USER_PORT = 24  # network order, in the low half
_TYPE = 32
_PROTOCOL = 36

_PROCEED = 1  # what the program answers; 0 would be EPERM to the server


def program(ports: Iterable[int]) -> list[Instruction]:
    """Set SO_REUSEPORT on TCP sockets that bind one of these ports.

    Raises UsageError for no port, too many, or one that is none.
    """
    wanted = sorted(set(ports))
    if not 0 < len(wanted) <= PORTS or not all(0 < port < 1 << 16 for port in wanted):
        raise UsageError(
            f"there must be between 1 and {PORTS} ports, each between 1 and 65535 (got {wanted})"
        )
    items: list[asm.Item] = [
        asm.mov_reg(R6, R1),
        asm.load(Width.U32, R7, R6, _TYPE),
        asm.jump_imm(Jump.NE, R7, socket.SOCK_STREAM, "proceed"),
        asm.load(Width.U32, R7, R6, _PROTOCOL),
        asm.jump_imm(Jump.NE, R7, socket.IPPROTO_TCP, "proceed"),
        asm.load(Width.U32, R7, R6, _USER_PORT),
        asm.network_order(R7, 16),
        *(asm.jump_imm(Jump.EQ, R7, port, "set") for port in wanted),
        asm.jump("proceed"),
        asm.Label("set"),
        asm.store_imm(Width.U32, FP, -4, 1),
        asm.mov_reg(R1, R6),
        asm.mov_imm(R2, socket.SOL_SOCKET),
        asm.mov_imm(R3, socket.SO_REUSEPORT),
        asm.mov_reg(R4, FP),
        asm.alu_imm(Alu.ADD, R4, -4),
        asm.mov_imm(R5, 4),
        asm.call(Helper.SETSOCKOPT),
        asm.Label("proceed"),
        asm.mov_imm(R0, _PROCEED),
        asm.leave(),
    ]
    return asm.assemble(items)
