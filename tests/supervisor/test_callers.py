"""Who waits for an answer of ours: found by its process, whatever it says itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import pytest
from tests.waiting import wait_until

from segue.linux import proc
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.workers.callers import Caller
from segue.supervisor.workers.processes import Processes


class Named:
    """A worker's process, by its flag."""

    def __init__(self, flag: str) -> None:
        self.flag, self.worker = flag, Worker(1, 1, 7, 0.0)


class Known:
    """Processes of one worker, in whose tree are these."""

    def __init__(self, *tree: int) -> None:
        self.named, self.tree = Named("/run/t.w1"), tree

    def __iter__(self) -> Iterator[Named]:
        return iter([self.named])

    def of_process(self, pid: int) -> Named | None:
        return self.named if pid in self.tree else None


def of(pid: int, known: Known) -> Caller | None:
    return Caller.of(pid, cast(Processes, known))


@pytest.fixture
def sleeping() -> Iterator[Any]:
    """Starts a shell that leads a session, and waits for its child; the child's pid."""
    shells: list[subprocess.Popen[bytes]] = []

    def start(env: dict[str, str]) -> int:
        command = ["sh", "-c", "sleep 1000; :"]
        shells.append(subprocess.Popen(command, env=env, start_new_session=True))
        wait_until(lambda: proc.children(shells[-1].pid), "the child of the shell")
        return proc.children(shells[-1].pid)[0]

    yield start
    for shell in shells:
        os.killpg(shell.pid, 9)
        shell.wait()


def test_a_process_in_a_workers_tree_belongs_to_it(sleeping: Any) -> None:
    """Also when its environment was cleared."""
    pid = sleeping({})
    caller = of(pid, Known(pid))
    assert caller is not None
    assert caller.worker is not None
    assert caller.alive


def test_a_process_whose_environment_names_a_worker_belongs_to_it(sleeping: Any) -> None:
    """It made itself a daemon; a worker that lives no more has no caller."""
    found = [of(sleeping({"SEGUE_WORKER": flag}), Known()) for flag in ("/run/t.w1", "/run/t.w0")]
    assert [one is not None and one.worker is not None for one in found] == [True, False]


def test_a_process_that_is_gone_is_no_caller() -> None:
    """Nor is one of another pid namespace, which the kernel shows as 0."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert of(ended.pid, Known()) is None
    assert of(0, Known()) is None


def test_parents_are_spared_up_to_the_leader_of_the_session(sleeping: Any) -> None:
    """The shell that waits for the command, and not who started the shell."""
    pid = sleeping({})
    caller = of(pid, Known())
    assert caller is not None
    shell = proc.session_of(pid)
    assert shell is not None
    assert caller.line() == {pid: proc.start_time(pid), shell: proc.start_time(shell)}
    os.kill(pid, 9)
    wait_until(lambda: not caller.alive, "its end")
