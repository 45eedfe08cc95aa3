"""/proc as it is written, and a living tree of processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_user
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc

TICKS = os.sysconf("SC_CLK_TCK")
# Of a process that called itself "a) S (b" with prctl(PR_SET_NAME), on Linux 6.18.
STAT = (
    b"4242 (a) S (b) T 17 4242 4242 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 987654 1000 200"
    b" 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A shell, leader of a session, with a child of its own that runs for a minute."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & read line; kill $!; wait"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        wait_until(
            lambda: [proc.command(one) for one in proc.children(process.pid)] == ["sleep"],
            "its child runs",
        )
        yield process
        process.communicate(b"\n", timeout=PATIENCE)


def gone() -> int:
    """The pid of a process that was, and is not any more."""
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_a_name_may_hold_spaces_and_parentheses() -> None:
    """The fields begin after the last closing parenthesis."""
    fields = proc.stat_fields(STAT)
    assert fields[:4] == [b"T", b"17", b"4242", b"4242"]
    assert fields[11:13] == [b"250", b"50"]
    assert fields[19] == b"987654"


def test_a_live_process_with_such_a_name() -> None:
    """Read through the kernel, its parent and state are right."""
    code = "open('/proc/self/comm','w').write('a) S 1 (b'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with open(f"/proc/{process.pid}/stat", "rb") as file:
            assert b"(a) S 1 (b)" in file.read()
        assert proc._children_by_parent(os.getpid()) == (process.pid,)
        assert proc.children(os.getpid()) == (process.pid,)
        assert proc.run_state(process.pid) in {"R", "S"}
        process.communicate(b"\n", timeout=PATIENCE)


def test_the_tree_of_a_shell_with_a_child(shell: subprocess.Popen[bytes]) -> None:
    """The shell first, then its child; both are in its session, which leaves the leader out."""
    (child,) = proc.children(shell.pid)
    assert proc.tree(shell.pid) == (shell.pid, child)
    assert proc.tree(child) == (child,)
    assert shell.pid in proc.tree(os.getpid())
    assert proc.session(shell.pid) == proc.below(shell.pid) == {child: proc.start_time(child)}
    assert set(proc.tree(shell.pid)) <= set(proc.everyone())


def test_names_and_arguments(shell: subprocess.Popen[bytes]) -> None:
    """The program's base name, and every argument as it was given."""
    (child,) = proc.children(shell.pid)
    assert proc.command_line(child) == ("sleep", "60")
    assert (proc.command(shell.pid), proc.command(child)) == ("sh", "sleep")


def test_a_stopped_process_is_seen_stopped(shell: subprocess.Popen[bytes]) -> None:
    """Every thread counts; after SIGCONT it is not stopped any more."""
    assert not proc.threads_stopped(shell.pid)
    os.kill(shell.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: proc.threads_stopped(shell.pid), "it stands still")
        assert proc.run_state(shell.pid) == "T"
        # "" is what Linux 5.10 says of one that is stopped.
        assert "stop" in (proc.wait_channel(shell.pid) or "stop")
    finally:
        os.kill(shell.pid, signal.SIGCONT)
    wait_until(lambda: not proc.threads_stopped(shell.pid), "it runs again")


def test_a_process_that_is_gone_is_empty_everywhere() -> None:
    """Nothing is raised: it may end between any two reads."""
    pid = gone()
    assert proc.tree(pid) == ()
    assert proc.children(pid) == ()
    assert proc.session(pid) == proc.below(pid) == {}
    assert proc.parent(pid) is None
    assert proc.sockets(pid) == {}
    assert proc.command_line(pid) == ()
    assert proc.command(pid) == "?"
    assert proc.start_time(pid) is None
    assert proc.run_state(pid) is None
    assert proc.wait_channel(pid) == ""
    assert proc.threads_stopped(pid)


def test_a_zombie_has_no_start_time_and_is_in_no_session() -> None:
    """It runs no more; who has not been waited for keeps only its number."""
    pid = os.posix_spawn("/bin/true", ["true"], {}, setsid=True)
    wait_until(lambda: proc.run_state(pid) == "Z", "it has ended")
    assert proc.start_time(pid) is None
    assert proc.threads_stopped(pid)
    os.waitpid(pid, 0)


@pytest.mark.root
def test_who_hides_what_is_open() -> None:
    """Of an ordinary user: another user's process; none of his own that runs or has ended."""

    def hides() -> list[bool]:
        ended = subprocess.Popen(["true"])
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        return [proc.hides_descriptors(pid) for pid in (os.getppid(), os.getpid(), ended.pid)]

    assert as_user(61013, hides) == [True, False, False]


def test_one_of_the_first_descriptors_tells_that_none_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are not listed, since there may be many thousand."""
    monkeypatch.setattr(os, "scandir", None)
    assert not proc.hides_descriptors(os.getpid())


def test_a_process_without_the_first_descriptors_is_looked_into() -> None:
    """A daemon may have closed them."""
    ours, its = socket.socketpair()
    code = f"import os; os.closerange(0, 3); os.read({its.fileno()}, 1)"
    with ours, its:
        command = [sys.executable, "-S", "-E", "-c", code]
        with subprocess.Popen(command, pass_fds=[its.fileno()]) as process:
            wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == 1, "they are closed")
            assert not proc.hides_descriptors(process.pid)
            ours.send(b"x")


def test_sockets_by_inode() -> None:
    """Every socket of a process under its inode, and who has it open."""
    with socket.socket() as one, open("/dev/null", "rb") as other:
        inode = os.fstat(one.fileno()).st_ino
        assert proc.sockets(os.getpid())[inode] == one.fileno()
        assert other.fileno() not in proc.sockets(os.getpid()).values()
        assert proc.owners([inode, 1]) == {inode: (os.getpid(),)}
        code = "print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[one.fileno()],
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert proc.owners([inode]) == {inode: tuple(sorted([os.getpid(), process.pid]))}
            process.communicate(b"\n", timeout=PATIENCE)


def test_who_watches_a_socket_by_epoll() -> None:
    """Only as long as it does, and not by its number alone."""
    with socket.socket() as one, socket.socket() as other, select.epoll() as watching:
        watching.register(one, select.EPOLLIN)
        found = proc.polled(os.getpid())
        assert one.fileno() in found
        assert other.fileno() not in found
        watching.unregister(one)
        assert one.fileno() not in proc.polled(os.getpid())
    assert proc.polled(2**22 + 1) == set()


def test_a_pid_that_is_used_again_has_another_start() -> None:
    """Start times do not change while a process lives, and later ones are not earlier."""
    own = proc.start_time(os.getpid())
    assert own is not None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        began = proc.start_time(process.pid)
        assert began is not None
        assert began >= own
        process.communicate(b"", timeout=PATIENCE)
    assert proc.start_time(os.getpid()) == own


def test_what_a_process_was_started_with() -> None:
    """The entries of its environment; none when it is gone."""
    env = {"ONE": "1", "TWO": "a=b"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=env) as process:
        # execve(2) gives the process its name first, and the place of its environment later.
        wait_until(
            lambda: proc.environment(process.pid) == [b"ONE=1", b"TWO=a=b"], "its environment"
        )
        process.communicate(b"", timeout=PATIENCE)
    assert proc.environment(process.pid) == []


def test_sessions_and_capabilities() -> None:
    """A new session is led by the process that made it; what setpriv takes away is not there."""
    argv = ["cat"] if os.geteuid() else ["setpriv", "--bounding-set=-setuid", "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as process:
        wait_until(lambda: proc.command(process.pid) == "cat", "it runs cat")
        assert proc.session_of(process.pid) == process.pid
        assert proc.session_of(os.getpid()) == os.getsid(0)
        assert not proc.capabilities(process.pid) & 1 << 7
        process.communicate(b"", timeout=PATIENCE)
    assert proc.session_of(process.pid) is None
    assert bool(proc.capabilities(os.getpid()) & 1 << 7) == (os.geteuid() == 0)


def test_groups_and_files_of_a_process(tmp_path: Path) -> None:
    """Its process group, directory and program by inode, control group; "" when gone."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=tmp_path, process_group=0) as process:
        wait_until(lambda: proc.command(process.pid) == "cat", "it runs cat")
        assert proc.process_group(process.pid) == process.pid
        assert proc.process_group(os.getpid()) == os.getpgid(0)
        found = os.stat(tmp_path)
        assert proc.file_identity(process.pid, "cwd") == f"{found.st_dev:x}:{found.st_ino}"
        program = os.stat(f"/proc/{process.pid}/exe")
        assert proc.file_identity(process.pid, "exe").endswith(f":{program.st_ino}")
        assert proc.control_group(process.pid) == proc.control_group(os.getpid())
        assert proc.start_seconds(process.pid) == (proc.start_time(process.pid) or 0) / TICKS
        process.communicate(b"", timeout=PATIENCE)
    assert proc.process_group(process.pid) is None
    assert proc.file_identity(process.pid, "cwd") == ""
    assert proc.control_group(process.pid) == ""
    assert proc.start_seconds(process.pid) is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/web.service\n", "/system.slice/web.service"),
        ("3:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service"),
        ("1:name=systemd:/a\n0::/b\n", "/b"),
        ("0::/\n", "/"),
        ("", ""),
    ],
)
def test_a_control_group_is_the_unified_one_if_it_says_anything(
    monkeypatch: pytest.MonkeyPatch, text: str, path: str
) -> None:
    """Hybrid hosts keep services in the hierarchy named systemd."""
    monkeypatch.setattr(proc, "_read", lambda _: text.encode())
    assert proc.control_group(1) == path


def test_a_thread_that_computes_runs_and_one_that_sleeps_does_not() -> None:
    """Both grow with time; every thread is told of by its own number, and nobody who is gone."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        pid = process.pid
        wait_until(lambda: proc.scheduling(pid).get(pid, (0,))[0] > 20_000_000, "it has run")
        assert list(proc.scheduling(pid)) == [pid]
        assert proc.scheduling(pid)[pid].runnable
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(pid), "it stands still")
        before = proc.scheduling(pid)
        assert not before[pid].runnable
        assert proc.scheduling(pid) == before
        process.kill()
    assert proc.scheduling(gone()) == {}


def test_a_handler_is_seen_from_outside() -> None:
    """A shell with a trap catches this signal and no other; one that is gone catches none."""
    with subprocess.Popen(
        ["sh", "-c", "trap : USR1; echo trapped; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as trapping:
        assert trapping.stdout is not None
        trapping.stdout.readline()
        assert proc.catches(trapping.pid, signal.SIGUSR1)
        assert not proc.catches(trapping.pid, signal.SIGUSR2)
        trapping.communicate()
        assert not proc.catches(trapping.pid, signal.SIGUSR1)
