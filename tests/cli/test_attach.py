"""What ``segue attach`` refuses, in one sentence, and with nothing changed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.supervisor.attaching import HERE, Attach, Servers, pinned, servers
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import PATIENCE, wait_until

from segue.engine.migrate import Migrate
from segue.linux.sockopt import open_listener

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


@pytest.fixture
def pool(netns: int) -> Iterator[Servers]:
    """Servers in this test's namespace."""
    with servers() as made:
        yield made


def refused(
    tmp_path: Path, bpffs: str, *flags: str, before: tuple[str, ...] = ()
) -> tuple[int, str]:
    """The exit code and all that it said; nothing is pinned afterwards."""
    with Attach(tmp_path, bpffs, *flags, before=before) as one:
        code, said = one.wait(), one.said()
    assert "Traceback" not in said
    assert pinned(bpffs) == []
    return code, said


def test_nobody_listens(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """And where on that port somebody does."""
    code, said = refused(tmp_path, bpf_directory)
    assert (code, "no process listens at 127.0.0.1:8080" in said) == (2, True)
    with open_listener(HERE.at(8080), backlog=1):
        done = subprocess.run(
            [sys.executable, "-m", "segue", "attach", ":8080", "--bpffs", bpf_directory],
            cwd=ROOT, env={**os.environ, "SEGUE_DIRECTORY": str(tmp_path / "run")},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert "127.0.0.1:8080 is listened at" in done.stderr


def test_who_waits_attaches_when_somebody_listens(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """It is told to end meanwhile, or goes on as soon as there is a listener."""
    waits = "waits for a process that listens at 127.0.0.1:8080"
    with Attach(tmp_path, bpf_directory, "--wait") as one:
        wait_until(lambda: waits in one.said(), "it waits")
        one.process.terminate()
        assert one.wait() == 0
        assert pinned(bpf_directory) == []
        one.again()
        wait_until(lambda: one.said().count(waits) == 2, "it waits again")
        pool.plain()
        one.wait_attached(1)


def test_listeners_that_differ_in_what_would_break(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """With the option, and how to attach all the same; a lesser difference is only told."""
    with open_listener(HERE, backlog=1) as one, open_listener(HERE, backlog=1) as other:
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        code, said = refused(tmp_path, bpf_directory)
        assert (code, "--allow TCP_DEFER_ACCEPT attaches" in said) == (2, True)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with Attach(
            tmp_path, bpf_directory, "--ready", "listen", "--allow", "TCP_DEFER_ACCEPT"
        ) as here:
            here.wait_attached(2)
            assert "the listeners differ in SO_KEEPALIVE: " in here.said()
            assert here.said().count("differ in TCP_DEFER_ACCEPT") == 1  # the refusal above


def test_a_listener_without_reuseport(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """With whose it is, and what to do."""
    with open_listener(HERE, backlog=1, reuseport=False):
        code, said = refused(tmp_path, bpf_directory)
    assert (code, "lacks SO_REUSEPORT" in said, "segue adopt" in said) == (2, True, True)
    assert f"pid {os.getpid()}" in said


def test_another_program_steers_it(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """It is left as it is; --replace takes its place, once nobody holds the other's table."""
    with ExitStack() as stack:
        listener = stack.enter_context(open_listener(HERE, backlog=8))
        with Migrate() as other:
            other.join(0, listener)
            other.share({0: 1})
            code, said = refused(tmp_path, bpf_directory)
            assert (code, "another program steers the group" in said) == (1, True)
            with socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE):
                assert other.counts()[0].new == 1
        listener.settimeout(PATIENCE)
        listener.accept()[0].close()
        with Attach(tmp_path, bpf_directory, "--replace") as one:
            one.wait_attached(1)


def test_what_segue_run_owns(netns: int, tmp_path: Path, bpf_directory: str) -> None:
    """The verb that restarts it, by its name where an instance of this user's has that worker."""
    (tmp_path / "other").mkdir()
    with Instance(tmp_path) as instance:
        instance.wait_serving()
        code, said = refused(tmp_path, bpf_directory, "--name", "u")
        assert (code, "--rescue): segue restart --name t" in said) == (2, True), said
        code, said = refused(tmp_path / "other", bpf_directory)
        assert (code, "is one of segue run" in said, "--name t" in said) == (2, True, False), said
        assert instance.status()["phase"] == "serving"


def test_a_host_without_a_bpf_file_system(pool: Servers, tmp_path: Path) -> None:
    """With the command that mounts one."""
    with open_listener(HERE, backlog=1):
        code, said = refused(tmp_path, str(tmp_path))
    assert (code, "mount -t bpf -o mode=0700 bpf /sys/fs/bpf" in said) == (1, True)


@pytest.mark.parametrize(
    ("dropped", "said"), [("bpf,-sys_admin", "CAP_BPF"), ("sys_ptrace", "CAP_SYS_PTRACE")]
)
def test_a_missing_capability_is_named(
    pool: Servers, tmp_path: Path, bpf_directory: str, dropped: str, said: str
) -> None:
    """Which one, and what it is for."""
    pool.start("setpriv", "--reuid", "65534", "--clear-groups", *plain())
    without = ("setpriv", f"--bounding-set=-{dropped}", f"--inh-caps=-{dropped}")
    code, told = refused(tmp_path, bpf_directory, before=without)
    assert (code, said in told) == (1, True), told


def plain() -> tuple[str, ...]:
    """A plain server's command that another user can read."""
    program = (ROOT / "tests" / "supervisor" / "plain_server.py").read_text()
    return (sys.executable, "-S", "-E", "-c", program, HERE.host, str(HERE.port))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--generation-by", "age"), "tells no generations apart"),
        (("--canary", "101"), "between 0 and 100 percent"),
        (("--together", "-1"), "--together"),
        (("--ready-http", "health"), "a path such as /health"),
        (("--ready-host", "shop.example"), "--ready-host needs --ready-http"),
        (("--ready-header", "X-A: b"), "--ready-header needs --ready-http"),
        (("--ready-status", "200-399"), "--ready-status needs --ready-http"),
        (("--ready-http", "/h", "--ready-header", "host: b"), "use --ready-host b"),
        (("--ready-http", "/h", "--ready-status", "99"), "--ready-status must be a list"),
        (("--netns", "no-such-namespace"), "does not name a network namespace"),
        (("--name", "a/b"), "use letters"),
    ],
)
def test_nonsense_is_usage(
    netns: int, tmp_path: Path, bpf_directory: str, flags: tuple[str, ...], said: str
) -> None:
    """Exit code 2 before anything is touched."""
    code, told = refused(tmp_path, bpf_directory, *flags)
    assert (code, said in told) == (2, True), told
