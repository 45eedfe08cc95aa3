"""What each capability is for: with it and without it, as docs/SECURITY.md has it in a table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.test_rights_live import OTHER, OURS, PYTHON, ours, place
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel("5.14"),
    pytest.mark.program("setpriv"),
    pytest.mark.usefixtures("netns"),
]
__all__ = ["ours", "place"]  # fixtures

STARTS = ("setuid", "setgid", "kill")
REACHES = ("sys_ptrace", "dac_read_search")
PLAIN = (PYTHON, "-S", "-E", str(ROOT / "tests" / "supervisor" / "plain_server.py"))
BINDS_ITSELF = (*PLAIN, "127.0.0.1", "8080")
PASSED = (*(PYTHON, "-S", "-E"), str(ROOT / "examples" / "asyncio_server.py"))


def only(*names: str) -> tuple[str, ...]:
    """As uid 61001 with these capabilities, and nothing else of root's."""
    caps = ",".join(["-all", *(f"+{name}" for name in names)])
    return (
        *("setpriv", "--reuid", str(OURS), "--regid", str(OURS), "--clear-groups"),
        *(f"--inh-caps={caps}", f"--ambient-caps={caps}", "--"),
    )


def segue(directory: Path, before: tuple[str, ...], *args: str) -> tuple[int, str]:
    """A command's exit code and all that it said."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "segue", *args],
        cwd=ROOT, env={**os.environ, "SEGUE_DIRECTORY": str(directory / "run")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ((), "engine drain: not migrate: creating the REUSEPORT_SOCKARRAY map sockets"),
        (("net_admin",), "it needs CAP_BPF"),
        (("bpf",), "engine migrate: a queued connection migrated"),
    ],
)
def test_bpf_is_for_migration(ours: Path, has: tuple[str, ...], said: str) -> None:
    """Alone it is enough; without it connections are drained, and it is said what is missing."""
    with Instance(ours, command=PASSED, before=only(*has)) as one:
        one.wait_serving()
        assert said in one.said()


def test_net_bind_service_is_for_low_ports(ours: Path) -> None:
    """Without it port 80 is refused with its name."""
    flags = ("--bind", "127.0.0.1:80")
    with Instance(ours, *flags, command=PASSED, before=only("bpf")) as one:
        assert one.wait() != 0
        assert "need CAP_NET_BIND_SERVICE" in one.said()
    with Instance(ours, *flags, command=PASSED, before=only("net_bind_service")) as one:
        one.wait_serving()


OWN = ("--bind-by", "worker", "--user", "nobody", "--ready-timeout", "2")


def test_two_are_for_looking_into_another_users_workers(ours: Path) -> None:
    """Listeners that such workers open themselves are taken with both, and not with one."""
    for lacking in REACHES:
        has = [*STARTS, "bpf", *(one for one in REACHES if one != lacking)]
        with Instance(ours, *OWN, command=BINDS_ITSELF, before=only(*has)) as one:
            assert one.wait() != 0
            assert "a process that cannot be seen from here" in one.said()


def test_chown_is_for_joining_another_users_listeners(ours: Path) -> None:
    """Without it nobody sees when a worker takes off the program: said once, all else goes on."""
    has = [*STARTS, *REACHES, "bpf"]
    with Instance(ours, *OWN, command=BINDS_ITSELF, before=only(*has, "chown")) as one:
        one.wait_serving()
        wait_until(lambda: one.workers("serving")[0]["age"] > 2.5, "two looks")
        assert "CAP_CHOWN" not in one.said()
    with Instance(ours, *OWN, command=BINDS_ITSELF, before=only(*has)) as one:
        one.wait_serving()
        wait_until(lambda: "it needs CAP_CHOWN" in one.said(), "what is missing")
        assert one.ask("restart")["exit"] == 0
        wait_until(lambda: one.workers("serving")[0]["age"] > 2.5, "two looks")
        assert one.said().count("CAP_CHOWN") == 1


def test_net_admin_is_for_programs_of_a_cgroup(place: Path) -> None:
    """Without it --inject is refused with its name; nothing else of a run asks for it."""
    # In bpf(2) CAP_SYS_ADMIN stands for CAP_NET_ADMIN too.
    caps = "-net_admin,-sys_admin"
    without = ("setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}", "--")
    flags = ("--inject", "--bind-by", "worker")
    with Instance(place, *flags, command=BINDS_ITSELF, before=without) as one:
        assert one.wait() != 0
        assert "it needs CAP_BPF and CAP_NET_ADMIN" in one.said()
    with Instance(place, command=PASSED, before=without) as one:
        one.wait_serving()
        assert "engine migrate" in one.said()


@pytest.fixture
def foreign(netns: int) -> Iterator[None]:
    """Two listeners of nobody's processes."""
    before = ("setpriv", "--reuid", str(OTHER), "--regid", str(OTHER), "--clear-groups")
    made = [subprocess.Popen([*before, *BINDS_ITSELF]) for _ in range(2)]
    try:
        wait_until(lambda: subprocess.check_output(["ss", "-Htln"]).count(b":8080 ") == 2, "both")
        yield
    finally:
        for one in made:
            one.kill()
            one.wait()


@pytest.mark.usefixtures("foreign")
@pytest.mark.program("ss")
@pytest.mark.parametrize("command", [("audit", "127.0.0.1:8080"), ("adopt", ":8080")])
def test_two_are_for_another_users_listeners(ours: Path, command: tuple[str, ...]) -> None:
    """With one of them it is said that it takes both; with both it works."""
    for lacking in REACHES:
        has = [one for one in REACHES if one != lacking]
        code, said = segue(ours, only(*has), *command)
        assert (code, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; here" in said) == (1, True), said
    code, said = segue(ours, only(*REACHES), *command)
    assert code == 0, said
