"""``segue reexec`` up to the exec: tried first, and everything as it was when it is refused."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import leaks
from tests.supervisor.run.doubles import Run, Simulated, settings_of

from segue.errors import SegueError, UsageError
from segue.supervisor.run import upgrade
from segue.supervisor.run.handover import VARIABLE
from segue.supervisor.run.service import Upgrade


@pytest.fixture(autouse=True)
def _same_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An exec is made where the settings were read; the tests come back from there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def new_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What this process's program is now, as text."""

    def install(code: str) -> None:
        monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", code, "run", "--name", "web"])
        monkeypatch.setattr(sys, "argv", ["-c", "run", "--name", "web"])

    return install


def under_way(run: Run) -> Upgrade | None:
    """The new code that is about to be become."""
    return run.service.upgrade


def test_new_code_is_given_the_handover_and_asked_to_check(
    run: Run, new_code: Callable[[str], None]
) -> None:
    """By the arguments of the running program, with --check behind the verb."""
    new_code(
        "import os, sys, json\n"
        f"memory = open(int(os.environ['{VARIABLE}']))\n"
        "memory.seek(0)\n"
        "plain = json.load(memory)\n"
        "sys.exit(not (sys.argv[1:] == ['run', '--check', '--name', 'web'] and plain['version']))"
    )
    ready = upgrade.prepare(run.service)
    assert ready.argv[-3:] == ("run", "--name", "web")
    assert ready.settings == run.settings


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('segue: no such setting')", "no such setting"),
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("import os; os._exit(1)", "no reason given"),
        ("import os; os.kill(os.getpid(), 9)", "no reason given"),
    ],
)
def test_new_code_that_does_not_start_is_refused(
    run: Run, new_code: Callable[[str], None], code: str, words: str
) -> None:
    """With its own words; nothing has changed, and no descriptor is left."""
    new_code(code)
    before, open_before = run.instance.to_json(), leaks.descriptors()
    with pytest.raises(SegueError, match=words):
        run.orders.reexec()
    assert not under_way(run)
    assert run.instance.to_json() == before
    assert leaks.descriptors() == open_before


def test_new_code_that_hangs_is_killed(
    run: Run, new_code: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a limit, for the supervisor does nothing else meanwhile."""
    monkeypatch.setattr(upgrade, "_CHECK_SECONDS", 0.2)
    new_code("import signal; signal.pause()")
    with pytest.raises(SegueError, match="did not load within"):
        run.orders.reexec()
    assert not under_way(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other"}, "--name cannot change"),
        ({"engine": "drain"}, "--engine cannot change"),
        ({"output": "json"}, "--output cannot change"),
        ({"bind_by": "worker"}, "bound by the"),
        ({"binds": settings_of().binds}, "go on with the same --bind"),
        ({"balance": "queue"}, "needs the engine migrate"),
        ({"max_connections": 9}, "--max-connections needs the engine migrate"),
    ],
)
def test_settings_that_cannot_change_are_refused(
    simulated: Simulated, begin: Callable[..., Run], change: dict[str, Any], words: str
) -> None:
    """Before the new code is tried."""
    simulated.migrates = False
    run = begin()
    run.serve()
    run.service.reread = lambda _: (replace(run.settings, **change), run.service.source)
    with pytest.raises(UsageError, match=words):
        run.orders.reexec()
    assert not under_way(run)


def test_an_exec_that_is_refused_leaves_everything_as_it_was(run: Run) -> None:
    """Whoever asked hears it; the next signal is heard, and no worker gets our descriptors."""
    handed = [front.sockets[slot] for front in run.service.fronts for slot in front.sockets]
    before, open_before = run.instance.to_json(), leaks.descriptors()
    run.service.upgrade = Upgrade(("/nowhere/python",), run.settings, run.service.source)
    upgrade.become(run.service, run.service.upgrade)
    assert not under_way(run)
    assert "could not be started, the old one goes on" in run.log
    assert VARIABLE not in os.environ
    assert not any(os.get_inheritable(one.fileno()) for one in handed)
    assert leaks.descriptors() == open_before
    assert run.instance.to_json() == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGCHLD}


def test_a_handover_that_cannot_be_written_is_no_end(run: Run) -> None:
    """Without a descriptor for it the old code goes on, as when the exec is refused."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    run.service.upgrade = Upgrade((sys.executable, "-c", "pass"), run.settings, run.service.source)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        upgrade.become(run.service, run.service.upgrade)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not under_way(run)
    assert "the old one goes on" in run.log
    assert VARIABLE not in os.environ
    run.orders.restart()
