"""A supervisor that was killed: the next one goes on with its workers, by the record."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run, signals_of

from segue.errors import SegueError, UsageError
from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.run.record import Record
from segue.supervisor.run.takeover import anyone_alive, take_over
from segue.worker import VARIABLE


@pytest.fixture
def served(killed: object, begin: Callable[..., Run]) -> Run:
    """Two workers at two addresses, each with the listeners that it was given."""
    run = begin(2)
    run.serve()
    return run


def cookies(run: Run) -> dict[int, list[int]]:
    return {one.id: [held.cookie for held in one.listeners] for one in run.instance.living}


def test_workers_go_on_with_their_listeners(served: Run, killed: Callable[..., None]) -> None:
    """The very sockets, duplicated from the workers; nobody is started or stopped."""
    before, pids = cookies(served), {one.pid for one in served.instance.living}
    killed(served)
    served.round()
    assert cookies(served) == before
    assert {one.pid for one in served.instance.living} == pids
    assert served.stages == {1: "SERVING", 2: "SERVING"}
    for bind in (0, 1):
        assert served.shares(bind) == {1: 1.0, 2: 1.0}
    assert "took over 2 worker(s)" in served.log


def test_a_worker_that_died_meanwhile_is_replaced(served: Run, killed: Callable[..., None]) -> None:
    """Its pid counts only with its start time."""
    served.simulated.end(served.worker(1).pid, 1)
    killed(served)
    served.round()
    assert served.stages == {2: "SERVING", 3: "STARTING"}


def test_what_workers_left_is_known(served: Run, killed: Callable[..., None]) -> None:
    """Listeners that may be in their helpers: what was known before, and those of dead workers."""
    served.service.fronts[1].left[4711] = "worker 1.9"
    served.service.write_down()
    dead = served.worker(1)
    served.simulated.end(dead.pid, 1)
    killed(served)
    first, second = (held.cookie for held in dead.listeners)
    assert served.service.fronts[0].left == {first: dead.name}
    assert served.service.fronts[1].left == {4711: "worker 1.9", second: dead.name}


def test_a_restart_goes_on_where_it_stood(served: Run, killed: Callable[..., None]) -> None:
    """The newcomers are asked again whether they are ready, and then get their part."""
    served.orders.restart(Renewal(percent=25.0))
    served.round()
    killed(served)
    assert served.instance.newcomer == 2
    served.round()
    served.ready()
    assert served.instance.phase is Phase.CANARY
    assert served.shares().keys() == {1, 2, 3, 4}


def test_a_worker_that_was_to_stop_is_told_again(served: Run, killed: Callable[..., None]) -> None:
    """The signal may have been written down and not sent."""
    served.orders.stop()
    served.round()
    served.round(0.1)  # handshakes may have been under way
    pids = [one.pid for one in served.instance.living]
    killed(served)
    assert [signals_of(pid) - {signal.SIGCONT} for pid in pids] == [{signal.SIGTERM}] * 2


def test_a_worker_that_was_not_written_down_is_ended(
    served: Run, killed: Callable[..., None]
) -> None:
    """It bears the mark of this instance with a number that the record has not reached."""
    half = served.simulated.spawn(
        ["serve"], env={VARIABLE: served.paths.flag(3)}, inherit=[], output=None
    )
    other = served.simulated.spawn(
        ["serve"], env={VARIABLE: served.paths.flag(3) + "x"}, inherit=[], output=None
    )
    killed(served)
    assert signals_of(half.pid) == {signal.SIGTERM}
    assert not signals_of(other.pid)
    for one in (half, other):
        os.close(one.pidfd)


def test_what_changed_in_the_settings_is_followed(served: Run, killed: Callable[..., None]) -> None:
    """Another number of workers at once, another command by a restart."""
    killed(served, workers=3, command=("serve", "--new"))
    assert served.instance.size == 3
    served.settle()
    assert served.instance.phase is Phase.RENEWING
    assert "the command changed since: restarting" in served.log


def test_other_addresses_are_refused(served: Run) -> None:
    """Workers cannot be told to serve elsewhere; nothing was touched."""
    record = served.service.record()
    asked = replace(
        served.asked, settings=replace(served.settings, binds=served.settings.binds[:1])
    )
    with pytest.raises(UsageError, match="go on with the same --bind"):
        take_over(record, asked, served.paths, -1, served.log, served.simulated.world())


@pytest.mark.parametrize(
    "damage",
    [
        {"instance": None},
        {"settings": {}},
        {"orders": [[1]]},
        {"orders": [["x"], []]},
        {"left": [{}]},
        {"left": [{"x": "worker 1.1"}, {}]},
        {"left": 3},
        {"instance": {"size": 1}},
    ],
)
def test_a_damaged_record_is_said(served: Run, damage: dict[str, Any]) -> None:
    """With what to do about it."""
    plain = {**served.service.record().to_json(), **damage}
    with pytest.raises(SegueError, match="cannot be read"):
        Record.from_json(plain, served.paths.record)


@pytest.mark.parametrize("where", ["renewal", "queued"])
@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ({"step": -1}, "cannot replace -1 worker"),
        ({"percent": -1.0}, "-1 percent"),
        ({"percent": 101.0}, "101 percent"),
        ({"keep": -0.5}, "kept for -0.5 s"),
    ],
)
def test_a_restart_that_nobody_can_have_asked_for_is_refused(
    served: Run, where: str, numbers: dict[str, float], why: str
) -> None:
    """In one sentence, before anything is done by it."""
    plain = served.service.record().to_json()
    plain["instance"][where] = {**asdict(Renewal()), **numbers}
    with pytest.raises(SegueError, match=f"cannot be read .*{why}"):
        Record.from_json(plain, served.paths.record)


def test_whether_anyone_is_alive(served: Run) -> None:
    """By pid and start time together; a record that cannot be read names nobody."""
    plain = served.service.record().to_json()
    assert anyone_alive(plain)
    for worker in plain["instance"]["workers"]:
        worker["start_ticks"] += 1
    assert not anyone_alive(plain)
    assert not anyone_alive({})
