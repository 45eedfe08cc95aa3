"""Newcomers, and workers that stop, give way by control groups of their own."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest
from tests.supervisor.groups import below, delegated, idle
from tests.supervisor.instance import SERVER, Instance
from tests.supervisor.slow_server import newcomer, ticking, waits_at_its_end, waits_for
from tests.waiting import wait_until

from segue.cli.main import main
from segue.linux import cgroup, niceness, proc

__all__ = ["delegated"]
pytestmark = [pytest.mark.root, pytest.mark.kernel("5.15")]

SERVE = shlex.join(SERVER)
STUBBORN = "trap '' TERM; sleep 60"


def inside(path: Path) -> tuple[str, ...]:
    """Starts what follows in this group."""
    return ("sh", "-c", f'echo 0 >{path}/cgroup.procs; exec "$@"', "sh")


def where(pids: tuple[int, ...]) -> set[str]:
    """The groups of these processes, by the end of their names."""
    found = {cgroup.of(pid, "cpu") or cgroup.of(pid) or "" for pid in pids}
    return {path.rpartition(".")[2] for path in found}


def test_a_newcomer_is_in_an_idle_group_until_it_is_ready(
    netns: int, tmp_path: Path, delegated: Path
) -> None:
    """With the processes that it starts.  The first start of all gives way to nobody."""
    go = tmp_path / "go"
    before = inside(delegated)
    with Instance(
        tmp_path, "--cgroup", str(delegated), command=waits_for(go), before=before
    ) as one:
        newcomer(one)
        assert idle(delegated) == {"w1": False}
        go.touch()
        one.wait_serving()
        go.unlink()
        one.process.send_signal(signal.SIGHUP)
        pid = newcomer(one)
        wait_until(lambda: idle(delegated) == {"w1": False, "w2": True}, "an idle group")
        assert where(proc.tree(pid)) == {"w2"}
        assert niceness.of(pid) == os.getpriority(os.PRIO_PROCESS, 0)
        assert one.ask("reexec") == {"exit": 0}
        assert idle(delegated) == {"w1": False, "w2": True}
        assert one.status()["gives_way"] == (
            f"by control groups (cpu.idle) in {delegated}: --cgroup names it"
        )
        go.touch()
        one.wait_serving(2)
        # Once what the first has left running is ended, too.
        wait_until(lambda: idle(delegated) == {"w2": False}, "the end of the first group")
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert below(delegated) == []


@pytest.mark.kernel("6.6")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) > 8, reason="not done on so many processors")
def test_processors_choose_anew_beside_an_idle_group_too(
    netns: int, tmp_path: Path, delegated: Path
) -> None:
    """The kernel may leave a processor to it until the next tick."""
    with Instance(tmp_path, "--cgroup", str(delegated)) as one:
        one.wait_serving()
        assert ticking(one) == []
        one.process.send_signal(signal.SIGHUP)
        one.wait_serving(2)
        assert len(ticking(one)) == 1


def test_after_the_limit_a_newcomer_competes(netns: int, tmp_path: Path, delegated: Path) -> None:
    """Though it is not ready, and the log says so."""
    go = tmp_path / "go"
    go.touch()
    flags = ("--gentle-start", "0.3", "--cgroup", str(delegated))
    with Instance(tmp_path, *flags, command=waits_for(go)) as one:
        one.wait_serving()
        go.unlink()
        one.process.send_signal(signal.SIGHUP)
        newcomer(one)
        wait_until(lambda: "they have been starting for" in one.said(), "the limit")
        assert idle(delegated) == {"w1": False, "w2": False}


def test_a_newcomer_that_is_killed_does_not_wait_for_a_processor(
    netns: int, tmp_path: Path, delegated: Path
) -> None:
    """It was told to stop, and did not."""
    good = tmp_path / "good"
    good.touch()
    command = ("sh", "-c", f"[ -e {good} ] || {{ {STUBBORN}; }}; rm {good}; exec {SERVE}")
    flags = ("--ready-timeout", "4", "--stop-timeout", "1", "--cgroup", str(delegated))
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "is killed: it did not stop in time" in one.said(), "the kill")
        one.wait_serving(1)
        wait_until(lambda: idle(delegated) == {"w1": False}, "the end of its group")


def test_a_worker_that_stops_is_in_an_idle_group(
    netns: int, tmp_path: Path, delegated: Path
) -> None:
    """Also under the next code of the supervisor.  A stop of the whole gives way to nobody."""
    go = tmp_path / "go"
    flags = ("--cgroup", str(delegated))
    with Instance(tmp_path, *flags, command=waits_at_its_end(go)) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: one.workers("stopping"), "the order to stop")
        assert idle(delegated) == {"w1": True, "w2": False}
        assert one.ask("reexec") == {"exit": 0}
        assert idle(delegated) == {"w1": True, "w2": False}
        go.write_text("go")
        one.wait_serving(2)
        assert idle(delegated) == {"w2": False}
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: one.workers("stopping"), "the order to stop")
        assert idle(delegated) == {"w2": False}


def test_the_next_supervisor_has_the_groups_of_one_that_was_killed(
    netns: int, tmp_path: Path, delegated: Path
) -> None:
    """A newcomer stays idle, and empty groups are removed."""
    go = tmp_path / "go"
    go.touch()
    flags, before = ("--cgroup", str(delegated)), inside(delegated)
    with Instance(tmp_path, *flags, command=waits_for(go), before=before) as one:
        one.wait_serving()
        old = int(one.workers("serving")[0]["pid"])
        go.unlink()
        one.process.send_signal(signal.SIGHUP)
        newcomer(one)
        one.process.kill()
        one.process.wait()
        for pid in reversed(proc.tree(old)):
            os.kill(pid, signal.SIGKILL)
        assert idle(delegated) == {"w1": False, "w2": True}
        one.again()
        wait_until(lambda: "took over 1 worker(s)" in one.said(), "the next supervisor")
        wait_until(lambda: "w1" not in idle(delegated), "the end of the empty group")
        assert idle(delegated)["w2"]
        go.touch()
        one.wait_serving(2)
        assert not any(idle(delegated).values())


def test_a_delegated_group_is_found(netns: int, tmp_path: Path, delegated: Path) -> None:
    """By the mark that systemd makes, in version 2."""
    if not cgroup.unified(str(delegated)):
        pytest.skip("the controller cpu is not in version 2 here")
    os.setxattr(delegated, "user.delegate", b"1")
    with Instance(tmp_path, before=inside(delegated)) as one:
        one.wait_serving()
        assert one.status()["gives_way"] == (
            f"by control groups (cpu.idle) in {delegated}: the service manager has delegated it"
        )
        assert idle(delegated) == {"w1": False}
        # What systemd does when it starts the service again, while workers are there.
        one.process.kill()
        one.process.wait()
        one.again()
        wait_until(lambda: "took over 1 worker(s)" in one.said(), "the next supervisor")
        assert one.wait_serving().ask("restart")["exit"] == 0
        assert one.wait_serving(2).ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert below(delegated) == []


def test_a_group_that_cannot_be_used_is_said(netns: int, tmp_path: Path) -> None:
    """And newcomers give way as they do without."""
    with Instance(tmp_path, "--cgroup", "/sys/fs/cgroup/none") as one:
        one.wait_serving()
        assert one.status()["gives_way"].startswith("by nice values: looking at the cgroup /sys")
        said = "new workers leave processors to those that serve, by nice values: looking at the"
        assert said in one.said()
        assert one.ask("restart")["exit"] == 0


def test_another_users_group_is_not_used(netns: int, tmp_path: Path, delegated: Path) -> None:
    """Its owner could freeze, kill and move whoever is in it."""
    os.chown(delegated, 61001, 61001)
    with Instance(tmp_path, "--cgroup", str(delegated)) as one:
        one.wait_serving()
        assert f"by nice values: the cgroup {delegated} is of another user" in one.said()
    assert below(delegated) == []


def test_the_doctor_says_the_means(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence."""
    assert main(["doctor"]) == 0
    assert "new workers would leave processors to those that serve, by " in capsys.readouterr().out
