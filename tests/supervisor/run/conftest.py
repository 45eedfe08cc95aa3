"""One run in a simulated world, and nothing of it left behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import leaks
from tests.supervisor.run.doubles import Run, Simulated, settings_of

from segue.observe.snapshot import Observer
from segue.supervisor.run.record import Record
from segue.supervisor.run.takeover import take_over


@pytest.fixture(autouse=True)
def _no_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is not told what happens in them."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    """A world whose children end with the test."""
    made = Simulated()
    yield made
    made.close()


@pytest.fixture
def begin(simulated: Simulated, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins a run with these settings: ``begin(2, workers=3)`` has two addresses."""
    runs: list[Run] = []
    before = {one: signal.getsignal(one) for one in signal.valid_signals() if one < 32}
    descriptors = leaks.descriptors()

    def make(addresses: int = 1, **more: Any) -> Run:
        runs.append(Run(tmp_path, settings_of(addresses, **more), simulated))
        return runs[-1]

    yield make
    for one in runs:
        one.close()
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    assert leaks.descriptors() == descriptors


@pytest.fixture
def killed(simulated: Simulated, begin: Callable[..., Run]) -> Callable[[Run], None]:
    """Kills the supervisor of a run, whose workers hold its listeners, and takes it over."""
    simulated.observer = Observer

    def kill(run: Run, **changed: Any) -> None:
        run.die()
        asked = replace(run.asked, settings=replace(run.settings, **changed))
        plain = run.paths.read_record()
        assert plain is not None
        world = run.simulated.world()
        record = Record.from_json(plain, run.paths.record)
        run.own(take_over(record, asked, run.paths, run.paths.lock(), run.log, world))

    return kill


@pytest.fixture
def run(begin: Callable[..., Run]) -> Run:
    """Two workers at one address that serve, and can be asked."""
    made = begin()
    made.runner.open()
    made.serve()
    return made
