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
    assert not any("generation 2 is given up" in one for one in asked.said)
    assert run.stages == {1: "SERVING", 2: "SERVING"}


def test_the_first_worker_is_given_up_at_once(begin: Callable[..., Run], where: Path) -> None:
    """Before anything is served nothing is waited for: it ends with the sentence."""
    where.rmdir()
    run = begin(chdir=str(where))
    run.runner.open()
    run.round()
    assert run.service.exit_code == 3
    assert f"worker 1.1 could not be started: workers start in {where}, {GONE}" in run.log
    why = f"worker 1.1 could not be started: workers start in {where}, {GONE}"
    assert run.log.lines[-1].startswith(f"giving up: {why}")
    assert "until this is mended" not in run.log


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
    missing = f"1 of 2 worker(s) are missing; the last start failed: workers start in {where}"
    assert run.ask("status").ends[0]["status"]["outage"].startswith(missing)
    where.mkdir()
    run.round(1.0)
    assert run.stages == {2: "SERVING", 3: "STARTING"}


def test_a_directory_that_goes_between_look_and_start_is_no_crash(
    run: Run, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start itself finds it, too, and the listener waits for the next."""
    where.rmdir()
    monkeypatch.setattr(run.service.processes, "check", lambda _: None)
    run.round(1.0)
    run.end(1, 1)
    for _ in range(3):
        run.round(1.0)
    assert run.instance.crashes == []
    assert sum(GONE in one for one in run.log.lines) == 1
    where.mkdir()
    run.round(1.0)
    assert sorted(run.stages.values()) == ["SERVING", "STARTING"]


def test_what_a_generation_runs_is_said_and_kept(run: Run, where: Path) -> None:
    """Once for each generation, to the client too, and no longer than workers of it run."""
    said = f"serve in {where}"
    assert [one for one in run.log.lines if said in one] == [f"generation 1 runs {said}"]
    asked = run.ask("restart")
    assert f"generation 2 runs {said}" in asked.said
    run.ready()
    for worker in (1, 2):
        run.end(worker)
    assert asked.end is not None
    assert asked.end["runs"] == said
    assert set(run.instance.starts) == {2}


def test_a_worker_that_runs_elsewhere_than_its_generation_is_said(
    begin: Callable[..., Run], where: Path
) -> None:
    """After a deploy without a restart; once it is all of its generation, that runs there."""
    link = where.with_name("current")
    link.symlink_to(where)
    run = begin(chdir=str(link))
    run.runner.open()
    run.serve()
    other = where.with_name("other")
    other.mkdir()
    link.unlink()
    link.symlink_to(other)
    run.round(1.0)
    run.end(1)
    assert f"worker 1.3 (pid {run.worker(3).pid}) runs in {other}, and not in {where}" in run.log
    assert run.instance.starts[1].resolved == str(where)
    run.ready()
    run.end(2)
    assert run.instance.starts[1].resolved == str(other)


def test_settings_that_were_not_read_are_said_at_a_restart(run: Run, tmp_path: Path) -> None:
    """To the log and to the client, whether it waits or not; and in the status."""
    (tmp_path / "segue.toml").write_text("workers = 3\n")
    stale = f"{tmp_path}/segue.toml is new since the settings were read: segue reexec reads it"
    for wait in (True, False):
        asked = run.ask("restart", wait=wait)
        assert stale in asked.said
        run.ready()
    assert run.log.lines.count(stale) == 2
    assert run.ask("status").ends[0]["status"]["settings_changed"] == stale
