"""Clients that wait: each hears how it goes, and how it ended exactly once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Asking, Run

from segue.supervisor.control.server import Client
from segue.supervisor.run.waiting import Awaited, Handed, Waiting
from segue.supervisor.workers.processes import Processes


def restarted(run: Run) -> None:
    """The newcomers get all new connections, and the older workers have ended."""
    run.ready()
    run.round(0.1)
    for worker in (1, 2):
        run.end(worker)


def rolled_back(run: Run) -> None:
    run.ask("rollback")


def crashed(run: Run) -> None:
    run.end(3, 1)


def late(run: Run) -> None:
    run.round(61.0)


def replaced(run: Run) -> None:
    run.ask("restart", wait=False, replace=True)


def stopped(run: Run) -> None:
    run.orders.stop()


def closed(run: Run) -> None:
    run.service.waiting.close()


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (restarted, 0),
        (rolled_back, 1),
        (crashed, 3),
        (late, 3),
        (replaced, 4),
        (stopped, 1),
        (closed, 1),
    ],
)
def test_whoever_waits_for_a_restart_hears_how_it_ended(
    run: Run, happens: Callable[[Run], None], code: int
) -> None:
    """Whatever happens to the newcomers; nothing is said to the client afterwards."""
    client = run.ask("restart")
    assert not client.ends
    happens(run)
    run.round(0.1)
    assert client.end is not None
    assert client.end["exit"] == code
    assert client.hung_up
    assert not run.service.waiting.handed()


def test_progress_is_heard(run: Run) -> None:
    """A client that waits gets the lines of the log meanwhile, in their order."""
    client = run.ask("restart")
    run.ready()
    assert client.said[0] == "generation 2 is starting"
    assert "generation 2 takes all new connections" in client.said
    assert client.said == [one for one in run.log.lines if one in client.said]


def test_a_restart_is_over_when_the_older_workers_are_gone(run: Run) -> None:
    """Not when they lose their share; what was cut meanwhile is in the answer."""
    client = run.ask("restart")
    run.ready()
    run.end(1)
    assert not client.ends
    run.end(2)
    runs = str(run.instance.starts[2])
    assert client.end == {"exit": 0, "generation": 2, "cut": 0, "percent": 100.0, "runs": runs}


def test_a_kept_generation_is_not_waited_for(run: Run) -> None:
    """Whoever asks to keep the older workers hears when the newcomers serve."""
    client = run.ask("restart", keep=60.0)
    run.ready()
    assert client.end is not None
    assert client.end["exit"] == 0


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({"until": "serving"}, True),
        ({"until": "drained"}, False),
        ({"until": "drained", "keep": 60.0}, False),
        ({"until": "serving", "canary": 10.0}, True),
        ({"keep": 60.0}, True),
        ({}, False),
    ],
)
def test_a_client_waits_for_what_it_asks_for(
    run: Run, given: dict[str, object], served: bool
) -> None:
    """That the newcomers serve, or that the older workers are gone as well."""
    client = run.ask("restart", **given)
    assert not client.ends
    run.ready()
    assert bool(client.ends) is served
    if not served:
        for worker in (1, 2):
            run.end(worker)
    assert client.end is not None
    assert client.end["exit"] == 0


def test_a_worker_that_asks_is_answered_when_the_newcomers_serve(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for its own end; what it runs is spared until it has had its answer."""
    asking = run.worker(1)
    monkeypatch.setattr(Processes, "of_process", lambda self, _: self.by_worker.get(1))
    assert "its own end" in str(run.ask("restart", until="drained").end)
    client = run.ask("restart")
    assert os.getpid() not in run.service.waiting.spared(), "ours alone are never ended"
    assert run.service.waiting.workers == {asking.id}
    run.ready()
    assert client.end is not None
    assert client.end["exit"] == 0
    assert run.stages[1] == "DRAINING"
    assert run.service.waiting.returning
    run.round(0.9)
    assert run.stages[1] == "DRAINING"
    run.round(0.2)
    run.round(0.1)
    assert run.stages[1] == "STOPPING"
    assert not run.service.waiting.returning


def test_a_worker_that_stops_the_instance_is_answered_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for its own end; whoever is no worker hears of the end."""
    monkeypatch.setattr(Processes, "of_process", lambda self, _: self.by_worker.get(1))
    assert run.ask("stop").end == {"exit": 0}
    assert "stopping: every worker is told to finish" in run.log
    monkeypatch.undo()
    assert not run.ask("stop").ends


def test_a_worker_that_is_starting_cannot_wait_for_a_restart(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restart would wait for the start, and the start for the restart."""
    renewing = run.ask("restart")
    monkeypatch.setattr(Processes, "of_process", lambda self, _: self.by_worker.get(3))
    assert "which is starting itself" in str(run.ask("restart").end)
    assert not renewing.ends
    assert run.instance.queued is None


def test_a_canary_is_an_answer(run: Run) -> None:
    """The client hears which part the newcomers have got."""
    client = run.ask("restart", canary=10.0)
    run.ready()
    assert client.end is not None
    assert client.end["percent"] == 10.0


def test_going_back_ends_the_wait_for_what_is_left(run: Run) -> None:
    """The newcomers serve and the older workers drain: a rollback is the answer."""
    client = run.ask("restart")
    run.wait(1, 1)
    run.wait(2, 1)
    run.ready()
    assert not client.ends
    run.ask("rollback")
    assert client.end is not None
    assert "it was rolled back" in client.end["error"]


def test_whoever_waits_for_the_end_hears_it(run: Run) -> None:
    """Also when somebody else had asked to stop before."""
    first, second = run.ask("stop"), run.ask("stop")
    for worker in (1, 2):
        run.end(worker)
    assert run.runner.over()
    run.service.waiting.close()
    assert first.end == second.end == {"exit": 0}


def test_a_client_that_went_away_changes_nothing(run: Run) -> None:
    """Nobody reads the answer, and the restart comes to its end."""
    client = run.ask("restart")
    client.close()
    restarted(run)
    assert run.instance.settled
    assert not run.service.waiting.handed()


def test_a_client_for_whom_there_is_no_room_hears_so(run: Run) -> None:
    """Where the loop cannot watch another client it is answered, and not left to its time limit."""
    run.refuse("watch")
    client = run.ask("status")
    assert client.end is not None
    assert client.end["exit"] == 1
    assert "no room for another client" in client.end["error"]


def test_waits_are_handed_over(run: Run) -> None:
    """New code goes on with every client, by its descriptor and what it waits for."""
    pairs = [socket.socketpair() for _ in range(3)]
    before = Waiting(time.monotonic)
    before.for_generation(Client(pairs[0][0]), 7, until_drained=False)
    before.for_stop(Client(pairs[1][0]))
    before.for_new_code(Client(pairs[2][0]))
    handed = before.handed()
    assert [one.awaited for one in handed] == list(Awaited)
    assert [Handed.from_json(one.to_json()) for one in handed] == handed
    after = Waiting(time.monotonic)
    after.adopt(handed, run.service.processes)
    assert after.handed() == handed
    after.renewed()
    after.close()
    assert [pair[1].recv(100).split(b"}")[0] for pair in pairs] == [
        b'{"exit": 1, "error": "the supervisor ended"',
        b'{"exit": 0',
        b'{"exit": 0',
    ]
    for ours, theirs in pairs:
        ours.detach()  # closed by the client that adopted it
        theirs.close()


def test_only_who_waits_for_new_code_hears_of_it(run: Run) -> None:
    """A re-exec that failed is the answer to whoever asked for it, and to nobody else."""
    restart = run.ask("restart")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    run.service.waiting.for_new_code(Client(ours))
    run.service.waiting.not_renewed("no")
    assert theirs.recv(100) == b'{"exit": 1, "error": "no"}\n'
    assert not restart.ends
    theirs.close()


def test_a_client_that_is_forgotten_is_its_callers(run: Run) -> None:
    """It is told nothing more."""
    ours, theirs = socket.socketpair()
    client = Client(ours)
    run.service.waiting.for_stop(client)
    run.service.waiting.forget(client)
    run.service.waiting.close()
    client.end(2)
    assert theirs.recv(100) == b'{"exit": 2}\n'
    theirs.close()


def test_an_answer_ends_a_client_once(run: Run) -> None:
    """A stop while a restart is waited for: both clients hear one end each."""
    clients: list[Asking] = [run.ask("restart"), run.ask("stop")]
    for worker in list(run.stages):
        run.end(worker)
    run.service.waiting.close()
    assert [len(one.ends) for one in clients] == [1, 1]
