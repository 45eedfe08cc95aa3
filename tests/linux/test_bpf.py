"""Programs on the live kernel: loaded, refused, attached, pinned."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.bpf import asm
from segue.bpf.insn import R0, R1, R6, Helper, Jump, Size
from segue.errors import KernelError, VerifierError
from segue.linux import bpf
from segue.linux.bpf import Program, attach_reuseport, detach_reuseport
from segue.linux.bpf_attr import PROG_TYPE_SK_REUSEPORT, AttachType, MapType
from segue.linux.bpf_maps import Map
from segue.linux.sockopt import open_listener

PASS = asm.assemble([asm.mov_imm(R0, 1), asm.leave()])
DROP = asm.assemble([asm.mov_imm(R0, 0), asm.leave()])
HERE = Address("127.0.0.1", 8080)


def reachable() -> bool:
    """A connection is taken, or refused because no listener was found for its SYN."""
    try:
        socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_a_loaded_program_has_its_name_and_kind() -> None:
    """The kernel knows it as we named it, and forgets it when it is closed."""
    with Program.load(PASS, name="segue_pass") as program:
        info = program.info()
        assert (info.kind, info.name) == (PROG_TYPE_SK_REUSEPORT, "segue_pass")
        assert len(info.tag) == 16
        descriptor = program.fileno()
        assert not os.get_inheritable(descriptor)
    assert program.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.root
def test_a_refused_program_comes_with_log_and_listing() -> None:
    """The message has the verifier's reason; the fields have all it said and what was loaded."""
    senseless = asm.assemble([asm.load(Size.U64, R0, R6, 0), asm.leave()])
    with pytest.raises(VerifierError, match="R6 !read_ok") as refusal:
        Program.load(senseless, name="senseless")
    assert refusal.value.errno == errno.EACCES
    assert "R6 !read_ok" in refusal.value.log
    assert refusal.value.program.splitlines()[0] == "   0: (79) r0 = *(u64 *)(r6 +0)"
    assert "loading the program senseless" in str(refusal.value)


@pytest.mark.root
def test_a_log_longer_than_the_first_buffer_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer grows until what the verifier says fits, last line included."""
    monkeypatch.setattr(bpf, "_FIRST_LOG", 256)
    long = asm.assemble([*[asm.mov_imm(R1, 1)] * 400, asm.load(Size.U64, R0, R6, 0), asm.leave()])
    with pytest.raises(VerifierError) as refusal:
        Program.load(long)
    assert len(refusal.value.log) > 4096
    assert refusal.value.log.startswith("0: ")
    assert refusal.value.summary == "R6 !read_ok"


def test_a_kernel_without_migration_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know what is asked says EINVAL and writes no log."""
    monkeypatch.setattr(bpf, "command", lambda *_: -errno.EINVAL)
    with pytest.raises(KernelError, match=r"asked about migration needs Linux 5\.14"):
        Program.load(PASS)
    with pytest.raises(KernelError) as refusal:
        Program.load(PASS, attach_type=AttachType.SELECT)
    assert "5.14" not in str(refusal.value)


@pytest.mark.root
def test_what_is_no_matter_of_the_verifier_is_no_verifier_error() -> None:
    """A program of nothing is not read at all: the kernel says no in errno alone."""
    with pytest.raises(KernelError) as refusal:
        Program.load([])
    assert not isinstance(refusal.value, VerifierError)
    assert refusal.value.call == "bpf(BPF_PROG_LOAD)"


@pytest.mark.root
@pytest.mark.program("setpriv")
def test_without_cap_bpf_the_error_says_what_is_missing() -> None:
    """EPERM, in one sentence that names the capability."""
    script = (
        "from segue.linux.bpf import Program\n"
        "from segue.bpf.insn import Instruction\n"
        "try: Program.load([Instruction(0xB7, 0, imm=1), Instruction(0x95)])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(bpf.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "KernelError loading the program: bpf(BPF_PROG_LOAD) failed with EPERM"
        " (Operation not permitted); it needs CAP_BPF, or root\n"
    )


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_attach_and_detach(netns: int) -> None:
    """A program that drops every SYN does so from attach to detach, and no longer."""
    with open_listener(HERE, backlog=8) as listener, Program.load(DROP) as drop:
        assert reachable()
        attach_reuseport(listener.fileno(), drop.fileno())
        assert not reachable()
        detach_reuseport(listener.fileno())
        assert reachable()
        with pytest.raises(KernelError, match="detaching") as refusal:
            detach_reuseport(listener.fileno())
        assert refusal.value.errno == errno.ENOENT


@pytest.mark.root
def test_attaching_to_a_socket_of_no_group_is_said(netns: int) -> None:
    """Without SO_REUSEPORT there is nothing to decide for: EINVAL, and what was tried."""
    with open_listener(HERE, backlog=8, reuseport=False) as listener, Program.load(PASS) as program:
        with pytest.raises(KernelError, match="attaching a program") as refusal:
            attach_reuseport(listener.fileno(), program.fileno())
        assert refusal.value.errno == errno.EINVAL


@pytest.mark.root
@pytest.mark.program("mount")
def test_a_pin_outlives_the_descriptor(bpf_directory: str) -> None:
    """A program and a map are found again by path, as they were."""
    number = bytes([1, 0, 0, 0])
    with Program.load(PASS, name="pinned") as program:
        program.pin(f"{bpf_directory}/program")
        before = program.info()
    with Map.create(MapType.HASH, value_size=4, entries=4, name="pinned") as table:
        table.update(number, b"same")
        table.pin(f"{bpf_directory}/map")
    with Program.get(f"{bpf_directory}/program") as again:
        assert again.info() == before
    with Map.get(f"{bpf_directory}/map") as found:
        assert found.kind is MapType.HASH
        assert found.lookup(number) == b"same"


@pytest.mark.root
def test_a_pin_outside_a_bpf_file_system_is_refused(tmp_path: Path) -> None:
    """With the path, and where pins live."""
    with Program.load(PASS) as program, pytest.raises(KernelError, match="of type bpf") as refusal:
        program.pin(str(tmp_path / "program"))
    assert refusal.value.errno == errno.EPERM
    with pytest.raises(KernelError, match=r"opening the pin .*nowhere"):
        Program.get(str(tmp_path / "nowhere"))


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("attach_type", [AttachType.SELECT, AttachType.SELECT_OR_MIGRATE])
def test_both_attach_types_load(attach_type: AttachType) -> None:
    """Asked of new connections only, or of migrating ones too."""
    program = asm.assemble(
        [
            asm.call(Helper.GET_PRANDOM_U32),
            asm.jump_imm(Jump.NE, R0, 0, "pass"),
            asm.Label("pass"),
            asm.mov_imm(R0, 1),
            asm.leave(),
        ]
    )
    Program.load(program, attach_type=attach_type).close()
