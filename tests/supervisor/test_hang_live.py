"""Workers that hang where nobody else is awake: they are noticed, said and replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.supervisor.test_faults_live import answered, connect
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def stop_all(one: Instance) -> list[int]:
    """Stop every worker that serves; their pids."""
    pids = [worker["pid"] for worker in one.workers("serving")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


@pytest.mark.parametrize("how", [(), ("--rescue", "off"), ("--engine", "drain")])
def test_the_only_worker_is_replaced_and_its_clients_are_served(
    netns: int, tmp_path: Path, how: tuple[str, ...]
) -> None:
    """With every engine and without rescue; its queue waits for the successor."""
    flags = ("--stall-kill", "0.5", "--stop-timeout", "0.2", *how)
    with Instance(tmp_path, *flags) as one:
        one.wait_serving()
        [victim] = stop_all(one)
        assert answered(connect(20)) == 20
        wait_until(lambda: not os.path.exists(f"/proc/{victim}"), "the end of the hung worker")
        one.wait_serving()
        assert f"(pid {victim}) is replaced: it accepted nothing for " in one.said()
        assert " waited (pid " in one.said()


def test_all_workers_are_replaced_one_after_the_other(netns: int, tmp_path: Path) -> None:
    """Everybody is served, and no worker is stopped before a successor is ready."""
    flags = ("--workers", "2", "--stall-kill", "0.5", "--stop-timeout", "0.2")
    with Instance(tmp_path, *flags) as one:
        one.wait_serving(1, 2)
        victims = stop_all(one)
        clients = connect(40)
        assert answered(clients) == 40
        wait_until(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in victims),
            f"the end of the hung workers\n{one.said()}",
        )
        one.wait_serving(1, 2)
        lines = one.said().splitlines()
        steps = [line for line in lines if " is replaced: " in line or " is ready after" in line]
        assert ["replaced" in line for line in steps] == [False, False, True, False, True, False]


def test_it_is_said_where_nothing_is_to_be_done(netns: int, tmp_path: Path) -> None:
    """In status, until it accepts again."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        [victim] = stop_all(one)
        clients = connect(5)
        wait_until(lambda: one.workers("serving")[0]["hangs"], "a word in status")
        said = one.workers("serving")[0]["hangs"]
        assert said.startswith("accepts nothing for ")
        assert f"5 wait (pid {victim} is stopped" in said
        os.kill(victim, signal.SIGCONT)
        assert answered(clients) == 5
        wait_until(lambda: not one.workers("serving")[0]["hangs"], "silence")
