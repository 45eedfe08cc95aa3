"""The program at bind(2), as a specification and on the live kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import wait_until

from segue.bpf.disasm import disassemble
from segue.errors import UsageError
from segue.linux import cgroup
from segue.linux.bpf import Program, attach_cgroup, attached_to_cgroup
from segue.linux.bpf_attr import PROG_TYPE_CGROUP_SOCK_ADDR, AttachType
from segue.policy import reuseport_bind

GOLDEN = Path(__file__).parent.parent / "golden" / "reuseport_bind_program.txt"


def test_the_program_is_the_listing_that_was_reviewed() -> None:
    """A comparison for each port, once each and in order."""
    assert disassemble(reuseport_bind.program([8080, 80, 8080])) + "\n" == GOLDEN.read_text()


@pytest.mark.parametrize("ports", [[], [0], [65536], range(1, 1026)])
def test_what_is_no_port_is_refused(ports: list[int]) -> None:
    """None at all, none such, and too many."""
    with pytest.raises(UsageError, match="ports, each between 1 and 65535"):
        reuseport_bind.program(ports)


@pytest.fixture
def group() -> Iterator[str]:
    """A cgroup of this test's own, with the program for port 8080 at both kinds of bind."""
    path = f"{cgroup.mine()}/segue.test.{os.getpid()}"
    cgroup.make(path)
    directory = cgroup.open_directory(path)
    for asked in (AttachType.INET4_BIND, AttachType.INET6_BIND):
        assert attached_to_cgroup(directory, asked) == 0
        specification = reuseport_bind.program([8080])
        with Program.load(specification, name="segue_bind", attach_type=asked) as program:
            assert program.info().kind == PROG_TYPE_CGROUP_SOCK_ADDR
            attach_cgroup(directory, program.fileno(), asked)
        assert attached_to_cgroup(directory, asked) == 1
    os.close(directory)
    yield path
    cgroup.remove(path, 10)


def inside(path: str, work: Callable[[], int]) -> int:
    """The answer, 0 to 255, of a forked child that is in the cgroup."""
    door = cgroup.open_door(path)
    child = os.fork()
    if child == 0:
        answer = 255
        try:
            cgroup.enter(door)
            answer = work()
        finally:
            os._exit(answer)
    os.close(door)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def shares(family: int, kind: int, protocol: int, port: int) -> int:
    with socket.socket(family, kind, protocol) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


@pytest.mark.root
@pytest.mark.parametrize(
    ("family", "kind", "protocol", "port", "set_"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, 0, 8080, 1),
        (socket.AF_INET6, socket.SOCK_STREAM, 0, 8080, 1),
        (socket.AF_INET, socket.SOCK_STREAM, 0, 8081, 0),
        (socket.AF_INET, socket.SOCK_STREAM, 0, 0, 0),
        (socket.AF_INET6, socket.SOCK_STREAM, 0, 36895, 0),  # 8080 in the other byte order
        (socket.AF_INET, socket.SOCK_DGRAM, 0, 8080, 0),
    ],
)
def test_only_tcp_sockets_at_the_ports_named_are_touched(
    netns: int, group: str, family: int, kind: int, protocol: int, port: int, set_: int
) -> None:
    """In the cgroup; outside of it the option stays as it was."""
    assert inside(group, lambda: shares(family, kind, protocol, port)) == set_
    assert shares(family, kind, protocol, port) == 0


@pytest.mark.root
def test_a_cgroup_takes_its_programs_with_it(group: str) -> None:
    """It cannot go while somebody is in it, and who that is is said."""
    reader, writer = os.pipe()
    door = cgroup.open_door(group)
    child = os.fork()
    if child == 0:
        cgroup.enter(door)
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(door)
    wait_until(lambda: cgroup.members(group) == (child,), "the child is in its cgroup")
    with pytest.raises(OSError, match="EBUSY") as refused:
        cgroup.remove(group, 0.01)
    assert f"in it still: {child}" in str(refused.value)
    os.close(writer)
    os.close(reader)
    cgroup.remove(group, 10)
    os.waitpid(child, 0)
    assert not os.path.exists(group)
