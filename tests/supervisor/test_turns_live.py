"""Restarts that overtake one another, of a real instance: each new version comes to serve."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance, load
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def gated(directory: Path) -> tuple[str, ...]:
    """A server that starts once its generation's file is there; the first one at once."""
    gate = f"{directory}/go-$SEGUE_GENERATION"
    wait = f"while [ $SEGUE_GENERATION != 1 ] && [ ! -e {gate} ]; do sleep 0.02; done"
    return ("sh", "-c", f"{wait}; exec {' '.join(SERVER)}")


def go(directory: Path, generation: int) -> None:
    (directory / f"go-{generation}").touch()


class Restart:
    """``segue restart`` in a process of its own."""

    def __init__(self, one: Instance, number: int, *more: str) -> None:
        self._output = one.directory / f"restart-{number}"
        command = [sys.executable, "-m", "segue", "restart", "--control", one.control, *more]
        with open(self._output, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_said(self, words: str) -> None:
        wait_until(lambda: words in self.said, words)

    def code(self) -> int:
        return self.process.wait(PATIENCE)


def test_each_restart_that_is_begun_serves(netns: int, tmp_path: Path) -> None:
    """Restarts come faster than a start takes: every other one serves, nothing is lost."""
    with Instance(tmp_path, "--workers", "2", command=gated(tmp_path)) as one:
        one.wait_serving(1, 2)
        with load() as finish:
            at_work = Restart(one, 2)
            at_work.wait_said("generation 2 is starting")
            for generation in (2, 3, 4):
                between = Restart(one, 10 + generation)
                between.wait_said("this restart waits")
                last = Restart(one, 1 + generation)
                last.wait_said("this restart waits")
                assert between.code() == 4
                assert "superseded" in between.said
                go(tmp_path, generation)
                assert at_work.code() == 0
                last.wait_said(f"generation {generation + 1} is starting")
                at_work = last
            go(tmp_path, 5)
            assert at_work.code() == 0
            assert finish().lost == 0
        one.wait_serving(5, 2)


def reexec(one: Instance) -> None:
    assert one.ask("reexec")["exit"] == 0


def take_over(one: Instance) -> None:
    one.process.kill()
    one.process.wait()
    one.again()
    wait_until(one.status, "the next supervisor")


@pytest.mark.parametrize(("happens", "heard"), [(reexec, True), (take_over, False)])
def test_a_restart_that_waits_survives_its_supervisor(
    netns: int, tmp_path: Path, happens: Callable[[Instance], None], heard: bool
) -> None:
    """New code goes on with it and its client; after a crash it is begun all the same."""
    with Instance(tmp_path, command=gated(tmp_path)) as one:
        one.wait_serving()
        first = Restart(one, 2)
        first.wait_said("generation 2 is starting")
        second = Restart(one, 3, "--keep", "0")
        second.wait_said("this restart waits")
        happens(one)
        assert one.status()["queued"] == "until generation 2 serves or is given up"
        go(tmp_path, 2)
        go(tmp_path, 3)
        one.wait_serving(3)
        assert [first.code(), second.code()] == ([0, 0] if heard else [1, 1])


def test_a_restart_during_the_first_start_waits_for_it(netns: int, tmp_path: Path) -> None:
    """It begins when the first generation serves."""
    gate = tmp_path / "go-first"
    wait = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    command = ("sh", "-c", f"{wait}; exec {' '.join(SERVER)}")
    with Instance(tmp_path, command=command) as one:
        wait_until(lambda: one.workers("starting"), "the first worker")
        restart = Restart(one, 2)
        restart.wait_said("this restart waits until generation 1 serves")
        gate.touch()
        assert restart.code() == 0
        one.wait_serving(2)
