"""New code that goes on with what it was handed, and that begins anew when it cannot."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from tests.supervisor.run.doubles import Heard, Run

from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.run.handover import Handover
from segue.supervisor.run.resume import resume, start_again
from segue.supervisor.run.upgrade import gather
from segue.supervisor.run.waiting import Awaited, Handed


def renewed(run: Run, **changed: Any) -> None:
    """Exec: the new code has the descriptors, and what could be written down."""
    settings = replace(run.settings, **changed)
    handed = gather(run.service, settings, run.service.source, run.service.flow.hand_over())
    plain = json.loads(json.dumps(handed.to_json()))
    run.forget()
    world = run.simulated.world()
    run.own(resume(Handover.from_json(plain), run.asked, run.paths, run.log, world))


@pytest.fixture
def served(begin: Callable[..., Run]) -> Run:
    """Two workers at two addresses, which print into pipes."""
    run = begin(2, output="prefix")
    run.runner.open()
    run.serve()
    return run


def test_everything_goes_on(served: Run) -> None:
    """Workers, listeners and shares are those of before; what they print is passed on."""
    before, held = served.instance.to_json()["workers"], served.held()
    served.service.moved, served.service.cut = 7, 8
    served.simulated.print(served.worker(1).pid, "half a ")
    served.round()
    renewed(served)
    served.simulated.print(served.worker(1).pid, "line\n")
    served.round(0.1)
    assert served.instance.to_json()["workers"] == before
    assert served.held() == held
    assert (served.service.moved, served.service.cut) == (7, 8)
    for bind in (0, 1):
        assert served.shares(bind) == {1: 1.0, 2: 1.0}
    assert "worker 1.1 | half a line" in served.log


def test_clients_go_on_waiting(served: Run) -> None:
    """Whoever asked for a restart hears how it ends, from the new code."""
    client = served.ask("restart")
    renewed(served)
    served.round()
    served.ready()
    for worker in (1, 2):
        served.end(worker)
    assert client.end is not None
    assert client.end["exit"] == 0


def test_it_is_found_by_the_same_name(served: Run) -> None:
    """Lock and control socket are handed over; nobody can come in between."""
    lock = served.service.doors.lock
    renewed(served)
    assert served.service.doors.lock == lock
    client = served.ask("status")
    assert client.end is not None
    assert client.end["exit"] == 0


def test_ends_of_workers_are_heard(served: Run) -> None:
    """By the pidfds that went over."""
    renewed(served)
    served.end(1, 1)
    assert served.stages == {2: "SERVING", 3: "STARTING"}


def test_unclaimed_listeners_are_handed_over(begin: Callable[..., Run]) -> None:
    """A successor is started on the listener of a worker that died before."""
    run = begin(workers=1)
    run.runner.open()
    run.serve()
    run.end(1, 1)
    run.end(2, 1)
    cookies = [one.cookie for left in run.service.unclaimed for one in left.listeners]
    renewed(run)
    run.round(1.0)
    assert [one.cookie for one in run.worker(3).listeners] == cookies


def test_new_settings_are_followed(served: Run) -> None:
    """As they were read by the new code."""
    renewed(served, workers=3)
    served.round()
    assert served.stages == {1: "SERVING", 2: "SERVING", 3: "STARTING"}
    assert served.instance.phase is Phase.SERVING


def test_new_code_that_cannot_go_on_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why, tells who waits for new code, and hands no descriptor on."""
    monkeypatch.chdir(os.getcwd())  # it goes where the settings were read

    class Executed(Exception):
        """The program would be another one now."""

    def execute(*_: object) -> NoReturn:
        raise Executed

    monkeypatch.setattr(os, "execv", execute)
    ours, theirs = socket.socketpair()
    waits, still = socket.socketpair()
    os.set_inheritable(waits.fileno(), True)
    clients = [
        Handed(ours.detach(), Awaited.NEW_CODE).to_json(),
        Handed(waits.fileno(), Awaited.STOP).to_json(),
        {"not": "a client"},
    ]
    log = Heard()
    with pytest.raises(Executed):
        start_again({"clients": clients}, KeyError("x"), log)
    assert "could not go on with what it was handed (KeyError: 'x')" in log
    answer = json.loads(theirs.recv(1000))
    assert answer["exit"] == 1
    assert not os.get_inheritable(waits.fileno())
    for one in (theirs, waits, still):
        one.close()
