"""One run in a simulated world, and nothing of it left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run, Simulated, settings_of


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
    descriptors = len(os.listdir("/proc/self/fd"))

    def make(addresses: int = 1, **more: Any) -> Run:
        runs.append(Run(tmp_path, settings_of(addresses, **more), simulated))
        return runs[-1]

    yield make
    for one in runs:
        one.close()
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.fixture
def run(begin: Callable[..., Run]) -> Run:
    """Two workers at one address that serve, and can be asked."""
    made = begin()
    made.runner.open()
    made.serve()
    return made
