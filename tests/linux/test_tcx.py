"""Classifiers at an interface, as long as their link lives."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.waiting import PATIENCE

from segue.bpf import asm
from segue.bpf.insn import R0
from segue.errors import KernelError, NotSupported
from segue.linux import tcx
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType
from segue.linux.tun import Tun

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.6"), pytest.mark.usefixtures("netns")]


def verdict(number: int) -> Program:
    code = asm.assemble([asm.mov_imm(R0, number), asm.leave()])
    return Program.load(code, attach_type=AttachType.TCX_INGRESS)


def reaches(patience: float = PATIENCE) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        target.settimeout(patience)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
            source.sendto(b"x", target.getsockname())
        try:
            return target.recv(9) == b"x"
        except TimeoutError:
            return False


def test_a_classifier_is_there_as_long_as_its_link() -> None:
    """One that drops everything."""
    index = socket.if_nametoindex("lo")
    with verdict(2) as program:
        assert reaches()
        with tcx.attach(program, index):
            assert not reaches(0.2)
        assert reaches()


def test_it_is_before_one_that_passes_everything() -> None:
    """TCX_PASS ends the chain: nothing behind it is run."""
    index = socket.if_nametoindex("lo")
    with verdict(0) as passes, verdict(2) as drops:
        with tcx.attach(passes, index):
            assert reaches()
            with tcx.attach(drops, index):
                assert not reaches(0.2)
        with tcx.attach(drops, index), tcx.attach(passes, index):
            assert reaches()


def test_a_run_by_hand_has_a_verdict() -> None:
    """The number that the program returned."""
    with verdict(7) as program:
        assert tcx.run(program, bytearray(64)) == 7


def test_interfaces_are_told_by_their_link() -> None:
    """Loopback has a header of 14 bytes, a TUN device none."""
    with Tun("t0"):
        found = tcx.interfaces()
        assert found[socket.if_nametoindex("lo")] == 14
        assert found[socket.if_nametoindex("t0")] == 0


def test_what_is_no_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a kernel without such links is told apart."""
    with verdict(0) as program:
        with pytest.raises(KernelError, match="interface 99999"):
            tcx.attach(program, 99_999)

        def without(*_: Any) -> tuple[int, bytes]:
            return -22, b""

        monkeypatch.setattr(tcx, "answered", without)
        with pytest.raises(NotSupported, match=r"Linux 6\.6"):
            tcx.attach(program, 1)
