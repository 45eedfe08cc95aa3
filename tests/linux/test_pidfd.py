"""Descriptors of other processes, taken by number; and orphans that find a new parent."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys

import pytest
from tests import leaks
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.address import Address
from segue.errors import KernelError
from segue.linux import pidfd, proc
from segue.linux.sockopt import cookie, is_listening, open_listener

HOLDER = "import os; print(os.getpid(), flush=True); input()"


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_the_listener_of_another_process_is_the_same_socket() -> None:
    """Its duplicate has the cookie, accepts, and keeps it listening when the process is gone."""
    listener = open_listener(Address("127.0.0.1", 8000), backlog=8)
    number, identity = listener.fileno(), cookie(listener)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[number],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        listener.close()
        other = pidfd.open_process(process.pid)
        (there,) = proc.sockets(process.pid).values()
        taken = socket.socket(fileno=pidfd.getfd(other, there))
        with taken:
            assert cookie(taken) == identity
            assert not os.get_inheritable(taken.fileno())
            assert not select.select([other], [], [], 0)[0]
            process.communicate(b"\n", timeout=PATIENCE)
            assert select.select([other], [], [], PATIENCE)[0] == [other]
            os.close(other)
            assert is_listening(taken)
            taken.settimeout(PATIENCE)
            with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE) as client:
                child, peer = taken.accept()
                child.close()
                assert peer == client.getsockname()


def test_what_is_not_there_is_said() -> None:
    """No such process, and no such descriptor in one."""
    with subprocess.Popen(["true"]) as process:
        pass
    with pytest.raises(KernelError, match="ESRCH"):
        pidfd.open_process(process.pid)
    own = pidfd.open_process(os.getpid())
    try:
        with pytest.raises(KernelError, match=r"taking descriptor 99999 .* EBADF"):
            pidfd.getfd(own, 99999)
    finally:
        os.close(own)


def test_what_is_no_socket_is_not_taken_for_one() -> None:
    """ENOTSOCK, and no descriptor is left open."""
    with open(os.devnull, "rb") as file:
        before = leaks.descriptors()
        with pytest.raises(KernelError, match=r"for a socket: .* ENOTSOCK"):
            pidfd.duplicate_socket(os.getpid(), file.fileno())
        assert leaks.descriptors() == before


@pytest.mark.root
def test_another_users_descriptor_is_refused() -> None:
    """EPERM, with what it would need."""
    mine = os.getpid()

    def work() -> str:
        other = pidfd.open_process(mine)
        try:
            pidfd.getfd(other, 0)
        except KernelError as error:
            return f"{error.name}: {error.advice}"
        return "taken"

    assert as_nobody(work).startswith("EPERM: another user's process")


@pytest.mark.parametrize(
    ("script", "number", "status"),
    [
        ("raise SystemExit(7)", 0, 7),
        (HOLDER, signal.SIGTERM, -signal.SIGTERM),
        (HOLDER, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_how_a_child_ended(script: str, number: int, status: int) -> None:
    """Its exit status or its signal, once; whoever asks again is told that it was reaped."""
    reader, writer = os.pipe()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", script],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
    )
    os.close(reader)
    with pidfd.opened(child) as process:
        if number:
            assert pidfd.wait(process, 0) is None
            pidfd.send_signal(process, number)
        assert pidfd.wait(process, 20) == status
        with pytest.raises(KernelError, match="ECHILD"):
            pidfd.wait(process)
        with pytest.raises(KernelError, match=r"sending signal 15 .* ESRCH"):
            pidfd.send_signal(process, signal.SIGTERM)
    os.close(writer)


@pytest.mark.root
def test_another_users_process_is_not_signalled() -> None:
    """EPERM, with what it would need.  SIGURG does nothing to whoever does not ask for it."""
    mine = os.getpid()

    def work() -> str:
        with pidfd.opened(mine) as process:
            try:
                pidfd.send_signal(process, signal.SIGURG)
            except KernelError as error:
                return f"{error.name}: {error.advice}"
        return "sent"

    assert as_nobody(work) == "EPERM: another user's process needs CAP_KILL"


SUBREAPER = """
import os
from segue.linux.prctl import set_child_subreaper
set_child_subreaper()
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.read(reader, 1)
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
os.write(writer, b"x")
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_an_orphan_becomes_a_child_of_the_subreaper() -> None:
    """Its grandchild's exit status reaches it, as it would reach PID 1."""
    ended = subprocess.run(
        [sys.executable, "-c", SUBREAPER], capture_output=True, timeout=PATIENCE, check=True
    )
    assert ended.stdout.split() == [b"0", b"7"]
