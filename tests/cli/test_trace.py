"""What ``segue trace`` calls the slots of an address."""

from __future__ import annotations

import pytest

from segue.cli.trace import _Names
from segue.supervisor.control import client
from segue.supervisor.control.instances import Running
from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus

FIRST, SECOND = "127.0.0.1:80", "[::1]:80"
STATUS = Status(
    name="t", pid=1, phase="serving", engine="migrate", working=1, newcomer=None, size=2,
    fronts=(FrontStatus(name="", address=FIRST), FrontStatus(name="six", address=SECOND)),
    workers=(
        WorkerStatus(generation=1, id=1, pid=2, stage="serving", age=1, share=50,
                     slots=((FIRST, 1), (SECOND, 0))),
        WorkerStatus(generation=1, id=2, pid=3, stage="serving", age=1, share=50,
                     slots=((FIRST, 0), (SECOND, 1))),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("bind", "name"),
    [("", "worker 1.2"), (FIRST, "worker 1.2"), (SECOND, "worker 1.1"), ("six", "worker 1.1")],
)
def test_a_slot_is_a_workers_at_the_address_that_is_traced(
    monkeypatch: pytest.MonkeyPatch, bind: str, name: str
) -> None:
    """Each address numbers its slots itself; without one the first is traced."""
    monkeypatch.setattr(client, "status", lambda _: STATUS)
    assert _Names(Running("t", "socket", None), bind).of(0) == name


def test_a_slot_that_no_worker_has_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker has gone; and what no slot got was left to the kernel."""
    monkeypatch.setattr(client, "status", lambda _: STATUS)
    assert _Names(Running("t", "socket", None), "").of(7) == "slot 7"
    assert _Names(Running("t", "socket", None), "").of(None) == "the kernel's hash"
