"""A worker cannot be started and its program is not to blame: it comes later, and is no crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.supervisor.run.doubles import Run

GONE = "which is gone: make it again"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """The directory that workers start in."""
    made = tmp_path / "release"
    made.mkdir()
    return made


@pytest.fixture
def run(begin: Callable[..., Run], where: Path) -> Run:
    """Two workers that serve, and started there."""
    made = begin(chdir=str(where))
    made.runner.open()
    made.serve()
    return made


def test_newcomers_are_given_up_with_the_sentence(run: Run, where: Path) -> None:
    """The working generation goes on, and the client is told with the exit code of a failure."""
    where.rmdir()
    asked = run.ask("restart")
    assert asked.end is not None
    assert asked.end["exit"] == 3
    assert f"workers start in {where}, {GONE}" in asked.end["error"]
    assert run.stages == {1: "SERVING", 2: "SERVING"}


def test_a_dead_worker_is_replaced_once_the_directory_is_there(run: Run, where: Path) -> None:
    """It is tried once a second, said once, and never counted as a crash."""
    where.rmdir()
    run.round(1.0)
    run.end(1, 1)
    for _ in range(20):
        run.round(1.0)
    assert run.stages == {2: "SERVING"}
    assert run.instance.crashes == []
    assert sum(GONE in one for one in run.log.lines) == 1
    assert run.instance.last_worker == 2
    where.mkdir()
    run.round(1.0)
    assert run.stages == {2: "SERVING", 3: "STARTING"}


def test_a_directory_that_goes_between_look_and_start_is_no_crash(
    run: Run, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start itself finds it, too, and the listener waits for the next."""
    where.rmdir()
    monkeypatch.setattr(run.service.processes, "check", lambda: None)
    run.round(1.0)
    run.end(1, 1)
    for _ in range(3):
        run.round(1.0)
    assert run.instance.crashes == []
    assert sum(GONE in one for one in run.log.lines) == 1
    where.mkdir()
    run.round(1.0)
    assert sorted(run.stages.values()) == ["SERVING", "STARTING"]
