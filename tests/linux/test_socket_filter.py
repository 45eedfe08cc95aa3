"""Filters of sockets as eBPF programs."""

from __future__ import annotations

import socket

import pytest
from tests.waiting import PATIENCE

from segue.bpf import asm
from segue.bpf.insn import R0
from segue.errors import KernelError
from segue.linux import cbpf, socket_filter, sockopt
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


def test_a_filter_drops_until_it_is_detached() -> None:
    """A datagram that came meanwhile is gone."""
    code = asm.assemble([asm.mov_imm(R0, 0), asm.leave()])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        assert not socket_filter.present(sock)
        with Program.load(code, attach_type=AttachType.SOCKET) as program:
            socket_filter.attach(sock, program)
        assert socket_filter.present(sock)
        sock.sendto(b"dropped", sock.getsockname())
        socket_filter.detach(sock)
        assert not socket_filter.present(sock)
        sock.sendto(b"seen", sock.getsockname())
        assert sock.recv(9) == b"seen"
        with pytest.raises(KernelError, match="ENOENT"):
            socket_filter.detach(sock)


def test_a_classic_filter_is_seen_and_a_locked_one_stays() -> None:
    """However long it is, and nothing is written over."""
    code = asm.assemble([asm.mov_imm(R0, -1), asm.leave()])
    with socket.socket() as sock, Program.load(code, attach_type=AttachType.SOCKET) as program:
        cbpf.attach_filter(sock, [cbpf.load(0, cbpf.Width.U8)] * 200 + [cbpf.answer(1)])
        assert socket_filter.present(sock)
        sockopt.lock_filter(sock)
        with pytest.raises(KernelError, match="EPERM"):
            socket_filter.attach(sock, program)
