"""One round of a run: what follows from events, written down once; and when it wants the time."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run

from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase


def records(run: Run) -> int:
    """How often the record was written."""
    return run.simulated.refusals.asked.count("write record")


def written(run: Run) -> dict[str, Any]:
    """What a next supervisor would read of the instance."""
    found: dict[str, Any] = json.loads(Path(run.paths.record).read_text())["instance"]
    return found


def test_a_flip_is_written_down_once(run: Run) -> None:
    """With all that follows from it: older workers that are told to stop, too."""
    run.orders.restart()
    run.round()
    for process in run.service.processes:
        process.readiness.notified(ready=True)
    run.runner.tick()
    before = records(run)
    run.settle(0.01)
    assert records(run) == before + 1
    assert written(run)["working"] == 2


def test_a_worker_is_written_down_as_soon_as_it_runs(run: Run) -> None:
    """A supervisor that dies in the next moment leaves one that can be found."""
    before = records(run)
    run.orders.restart()
    run.settle()
    assert records(run) == before + 2, "each start, and nothing after them that has changed"
    assert [one["id"] for one in written(run)["workers"]] == [1, 2, 3, 4]
    assert written(run)["starts"].keys() == {"1", "2"}, "what the new generation runs, too"


def test_rounds_in_which_nothing_happens_write_nothing(run: Run) -> None:
    """A record is for what changes."""
    before = records(run)
    for _ in range(5):
        run.round(0.5)
    assert records(run) == before


def test_a_full_disk_stops_nothing(run: Run) -> None:
    """It is said once, and the restart comes to its end."""
    run.refuse("write record")
    run.orders.restart()
    run.round()
    run.ready()
    assert run.shares() == {3: 1.0, 4: 1.0}
    assert len([one for one in run.log.lines if "no supervisor could take over" in one]) == 1


def test_without_anything_awaited_it_wants_the_time_once_a_second(run: Run) -> None:
    """For what nothing announces."""
    assert run.runner.deadline() == pytest.approx(run.simulated.time + 1.0)


def test_workers_that_start_or_drain_are_looked_at_often(run: Run) -> None:
    """Soon enough that a restart of a quick server takes tens of milliseconds."""
    run.orders.restart(Renewal(keep=100.0))
    run.settle()
    assert run.runner.deadline() == pytest.approx(run.simulated.time + 0.02)
    run.ready()
    assert run.simulated.time < run.runner.deadline() < run.simulated.time + 0.02


def test_a_worker_that_starts_slowly_is_looked_at_less_often(run: Run) -> None:
    """So it may be found ready a fiftieth of its time late, and its siblings have the processor."""
    run.orders.restart()
    run.settle()
    run.simulated.time += 10.0
    assert run.runner.deadline() == pytest.approx(run.simulated.time + 0.2)


def test_the_end_of_a_limit_is_a_deadline(run: Run) -> None:
    """A back-off that is over in a tenth of a second is not waited for a whole one."""
    run.instance.not_before = run.simulated.time + 0.1
    assert run.runner.deadline() == pytest.approx(run.simulated.time + 0.1)


def test_a_restart_that_is_over_leaves_no_wishes(run: Run) -> None:
    """What it was asked to do must not befall the next scaling down."""
    run.orders.restart(Renewal(cut=True))
    run.round()
    run.ready()
    for worker in (1, 2):
        run.end(worker)
    assert run.instance.settled
    assert run.instance.renewal == Renewal()


def test_newcomers_that_are_late_are_given_up(run: Run) -> None:
    """After the time that the settings give them."""
    run.orders.restart()
    run.round()
    run.ready(3)
    run.round(61.0)
    assert run.instance.phase is Phase.SERVING
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STOPPING", 4: "STOPPING"}
    assert "was not ready after 60 s" in run.log


def test_a_notification_makes_a_worker_ready(run: Run) -> None:
    """READY=1 comes by the socket that workers find in their environment, with its sender's pid.

    The test is no worker: what it says counts for nobody.
    """
    run.orders.restart()
    run.round()
    assert run.simulated.spawned[-1]["env"]["NOTIFY_SOCKET"] == run.paths.notify
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker:
        worker.sendto(b"READY=1", run.paths.notify)
    run.round(0.1)
    assert run.stages[3] == "STARTING"


def test_who_need_not_notify_is_told_of_no_socket(begin: Callable[..., Run]) -> None:
    """Puma, for one, says at each start that it lacks a gem for it."""
    run = begin(ready="accept")
    run.settle()
    assert "NOTIFY_SOCKET" not in run.simulated.spawned[-1]["env"]


def test_a_worker_that_shut_its_listener_is_replaced(run: Run) -> None:
    """Found at the look once a second: nothing announces it."""
    worker = run.worker(1)
    run.service.fronts[0].sockets[worker.listeners[0].slot].shutdown(socket.SHUT_RDWR)
    run.round(1.1)
    run.round(0.1)
    assert "has shut down its listener" in run.log
    assert run.stages[3] == "STARTING"


def test_looks_that_are_refused_stop_nothing(run: Run) -> None:
    """Each is said once; what clients ask and what is due is done all the same."""
    run.refuse("snapshot")
    for _ in range(5):
        run.round(1.1)
    refused = [one.partition(": ")[0] for one in run.log.lines if "snapshot failed" in one]
    where = run.settings.binds[0].address
    assert refused == [f"looking at the listeners at {where}"]
    assert run.ask("scale", workers=1).end == {"exit": 0, "workers": 1}
    assert len(run.shares()) == 1


@pytest.mark.parametrize("failing", ["leftovers.step", "flow.round", "survey.step"])
def test_a_look_that_fails_keeps_no_other_from_being_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Newcomers are found ready, and removed files are made again, all the same."""

    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    owner, name = failing.split(".")
    monkeypatch.setattr(type(getattr(run.service, owner)), name, refused)
    run.orders.restart()
    run.round()
    os.unlink(run.paths.notify)
    run.ready()
    run.round(1.1)
    assert run.instance.working == 2
    assert os.path.exists(run.paths.notify)
    assert len([one for one in run.log.lines if "Too many open files" in one]) == 1


def test_the_socket_of_notifications_is_made_again(run: Run) -> None:
    """Without it a next worker's READY=1 would be lost."""
    os.unlink(run.paths.notify)
    run.round(1.1)
    assert os.path.exists(run.paths.notify)
    assert "it is there again" in run.log


def test_it_is_over_when_the_last_worker_has_ended(run: Run) -> None:
    """And not before; nothing is listened at then."""
    run.orders.stop()
    run.round()
    run.end(1)
    assert not run.runner.over()
    run.end(2)
    assert run.runner.over()
    run.runner.end()
    assert not run.held()


def test_unclaimed_listeners_are_closed_when_it_stops(begin: Callable[..., Run]) -> None:
    """Clients would wait there for a successor that is never started."""
    run = begin(workers=1)
    run.serve()
    run.end(1, 1)
    run.end(2, 1)
    assert run.service.unclaimed
    run.orders.stop()
    run.round()
    assert not run.service.unclaimed
    assert not run.held()
