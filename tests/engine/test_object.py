"""Objects as they come from a file: read, refused by their fault, loaded, and steered by table."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests import leaks
from tests.bpf.objects import GOLDEN, HOOK, SOCKARRAY, File, policy
from tests.policy.clients import IPV4, close, connect, queue, taken

from segue.bpf import asm
from segue.bpf.insn import R0, R7, Size
from segue.engine import object as objects
from segue.engine.by_table import ByTable
from segue.engine.loaded import load_program
from segue.engine.programs import ProgramChoice
from segue.errors import NotSupported, UsageError, VerifierError
from segue.linux import features, sysctl
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType
from segue.linux.sockopt import open_listener
from segue.policy.counts import Counts

TABLE = GOLDEN / "table.bpf.o"


def written(tmp_path: Path, data: bytes) -> str:
    """A file with these bytes."""
    where = tmp_path / "my.bpf.o"
    where.write_bytes(data)
    return str(where)


def test_a_file_that_cannot_be_used_is_named_with_its_fault(tmp_path: Path) -> None:
    """Absent, a directory, no object, or an object without what a policy needs."""
    none = File()
    none.function("xdp", [asm.mov_imm(R0, 1), asm.leave()])
    for path, said in ((tmp_path / "absent.o", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"{path} cannot be read: {said}"):
            objects.read(str(path))
    for data, said in (
        (b"#!/bin/sh", "ELF header: is not there"),
        (none.build(), "no program in a section 'sk_reuseport/migrate'"),
        (policy(sockets=(1, 4, 8, 4, 0)), "no map of the kind REUSEPORT"),
    ):
        with pytest.raises(UsageError, match=rf"my\.bpf\.o cannot be used as a policy: .*{said}"):
            objects.read(written(tmp_path, data))


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    """Its size is looked at first."""
    where = tmp_path / "large.o"
    with where.open("wb") as file:
        file.truncate(objects.LARGEST + 1)
    with pytest.raises(UsageError, match="has 16777217 bytes; an object file has at most"):
        objects.read(str(where))


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_what_the_verifier_refuses_comes_with_its_reason(tmp_path: Path) -> None:
    """And the listing, with maps by the names that the object has for them."""
    made = File()
    code = made.function(HOOK, [asm.mov_imm64(1, 0), asm.load(Size.U64, R0, R7, 0), asm.leave()])
    maps = made.maps(sockets=SOCKARRAY)
    made.relocate(code, 0, maps["sockets"])
    with pytest.raises(VerifierError, match=r"loading the program f: .*R7 !read_ok") as refusal:
        ProgramChoice(object=written(tmp_path, made.build())).check()
    assert "r1 = map sockets" in refusal.value.program


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_checking_leaves_nothing_behind() -> None:
    """Whatever was made for it is closed."""
    before = leaks.descriptors()
    for name in ("live", "table", "by_cookie"):
        ProgramChoice(object=str(GOLDEN / f"{name}.bpf.o")).check()
    assert leaks.descriptors() == before


def test_where_no_program_is_asked_about_migration_the_kernel_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not the program, however much the verifier finds wrong with it."""
    no = features.Finding(features.Answer.NO, "migration by eBPF needs Linux 5.14 or later")

    def load(*args: object, **named: object) -> Program:
        raise VerifierError(errno.EACCES, "loading", "invalid bpf_context access off=48 size=8\n")

    monkeypatch.setattr(Program, "load", load)
    monkeypatch.setattr(features, "_known", {"ebpf_reuseport": no})
    code = asm.assemble([asm.mov_imm(R0, 1), asm.leave()])
    with pytest.raises(NotSupported, match=r"the engine migrate .* Linux 5\.14 or later"):
        load_program(code, name="mine", maps={})
    with pytest.raises(VerifierError):
        load_program(code, name="mine", maps={}, attach_type=AttachType.SELECT)


@pytest.fixture
def engine(netns: int) -> Iterator[ByTable]:
    """Steered by the golden object ``table``; the kernel migrates nothing by itself."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    made = objects.steering(str(TABLE))
    assert isinstance(made, ByTable)
    with made:
        yield made


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_an_object_that_reads_the_table_has_shares_counts_and_pins(engine: ByTable) -> None:
    """All that the built-in program has, by the object's own instructions."""
    with ExitStack() as stack:
        listeners: dict[int, socket.socket] = {}
        for slot in (0, 1, 2):
            listeners[slot] = stack.enter_context(open_listener(IPV4, backlog=512))
            engine.join(slot, listeners[slot])
        engine.share({0: 3, 1: 1})
        clients = queue(400)
        got = taken(listeners, 400)
        assert got[2] == 0
        assert 50 < got[1] < 150
        assert {slot: engine.counts()[slot].new for slot in got} == got
        close(clients)
        engine.pin(5001, 2)  # by Segue's own look before the object's, which has no pins
        with connect(source_port=5001):
            assert taken(listeners, 1)[2] == 1
        engine.share({0: 1})
        clients = queue(20)
        engine.share({2: 1})
        engine.leave(0, listeners.pop(0))
        assert taken(listeners, 20) == {1: 0, 2: 20}
        assert engine.counts()[2] == Counts(child=20)
        assert engine.counts()[None] == Counts()
        assert (engine.weighs, engine.descriptors(), engine.variables()) == (True, {}, {})
        close(clients)
