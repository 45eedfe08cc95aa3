"""A process that got the number of one that has ended is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE

from segue.engine.freeze import frozen
from segue.linux import proc
from segue.supervisor.workers.processes import same_session

# As process 1 of a pid namespace, where the next pid can be chosen (proc_sys_kernel(5)).
REUSE = """
import os, signal, time
from segue.linux import pidfd, prctl, proc
from segue.supervisor.workers.processes import find_leftovers

def child(work, pid=0):
    if pid:
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
    told, tell = os.pipe()
    found = os.fork()
    if not found:
        work(lambda text=b"x": os.write(tell, text))
        os._exit(0)
    assert pid in (0, found), (pid, found)
    os.close(tell)
    return found, os.read(told, 64)

def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)

def stay(tell):
    tell()
    signal.pause()

def lead(tell):
    os.setsid()
    inner = os.fork()
    if inner:
        tell(str(inner).encode())
    signal.pause()

def tick():
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > now + 0.05)
"""
SIGNAL = """
first, _ = child(stay)
born = proc.start_time(first)
assert pidfd.signal_same(first, born, signal.SIGKILL)
os.waitpid(first, 0)
tick()
stranger, _ = child(stay, first)
assert not pidfd.signal_same(stranger, born, signal.SIGKILL)
assert proc.run_state(stranger) in {"R", "S"}
assert pidfd.signal_same(stranger, proc.start_time(stranger), signal.SIGKILL)
print("held")
"""
LEFTOVERS = """
FLAG = "/run/x.w1"
def supervise(tell):
    prctl.set_child_subreaper()
    def work(ready):
        os.setsid()
        if not os.fork():
            os.setsid()
            os.execve("/bin/sleep", ["sleep", "60"], {"SEGUE_WORKER": FLAG})
        ready()
    leader, _ = child(work)
    os.waitpid(leader, 0)
    def named():
        # Before its exec it is found by its session, and then for a moment by nothing.
        found = find_leftovers(leader, FLAG)
        return any(open(f"/proc/{pid}/comm").read() == "sleep\\n" for pid in found)
    until(named)
    left = find_leftovers(leader, FLAG)
    assert len(left) == 1
    (daemon,) = left
    tell(str(leader).encode())
    signal.sigwait({signal.SIGUSR1})
    assert set(found := find_leftovers(leader, FLAG, left)) == {daemon}
    assert pidfd.signal_same(daemon, found[daemon], signal.SIGKILL)
    os.waitpid(daemon, 0)
    os._exit(7)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
supervisor, leader = child(supervise)
tick()
stranger, inner = child(lead, int(leader))
assert proc.session(stranger)
os.kill(supervisor, signal.SIGUSR1)
assert os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1]) == 7
assert proc.run_state(int(inner)) in {"R", "S"}, "the process of a stranger was killed"
print("held")
"""


def alone(script: str) -> None:
    """Run this as process 1 of a pid namespace, with a /proc of its own."""
    argv = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*argv, sys.executable, "-c", REUSE + script], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("held\n", "")


@pytest.mark.root
@pytest.mark.program("unshare")
def test_a_signal_for_one_that_ended_reaches_nobody() -> None:
    """Who has its number since has another start time."""
    alone(SIGNAL)


@pytest.mark.root
@pytest.mark.program("unshare")
def test_a_session_of_a_dead_workers_number_is_a_strangers() -> None:
    """While a daemon of the worker is awaited, its number comes to lead somebody else's session."""
    alone(LEFTOVERS)


def test_a_session_is_the_same_while_somebody_stays_in_it() -> None:
    """Else it counts as far as it descends from us: the first look sees that of the worker."""
    assert same_session({7: 70}, None, {}) == {7: 70}
    assert same_session({7: 70, 8: 80}, {7: 70}, {}) == {7: 70, 8: 80}
    assert same_session({7: 71, 8: 80}, {7: 70}, {}) == {}
    assert same_session({7: 71, 8: 80, 9: 90}, {}, {8: 80, 9: 91}) == {8: 80}


def test_who_is_not_the_same_any_more_is_not_stopped() -> None:
    """It is asked once the process is held, and a child must be one of a process that is meant."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with frozen([process.pid], same=lambda _: False) as still:
            assert not still
            assert proc.run_state(process.pid) in {"R", "S"}
        process.communicate(b"", timeout=PATIENCE)


@pytest.mark.root
@pytest.mark.parametrize("number", ["2", "9" * 5000])
def test_a_takeover_leaves_another_users_mark_alone(
    netns: int, tmp_path: Path, number: str
) -> None:
    """Anybody can write into an environment that a program is the worker started last."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        env = {"SEGUE_WORKER": f"{tmp_path}/run/t.w{number}"}
        with subprocess.Popen(
            ["sleep", "60"], env=env, user=61001, start_new_session=True
        ) as stranger:
            one.process.kill()
            one.process.wait()
            one.again()
            one.wait_serving()
            assert one.ask("restart")["exit"] == 0
            assert os.waitpid(stranger.pid, os.WNOHANG) == (0, 0)
            stranger.kill()
