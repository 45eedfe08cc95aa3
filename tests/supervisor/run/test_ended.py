"""The end of a worker: whose fault it was, who follows, and who gets what waited there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Run, Simulated
from tests.waiting import wait_until

from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.workers.readiness import Readiness


@pytest.fixture
def draining(simulated: Simulated, begin: Callable[..., Run]) -> Run:
    """Where nothing migrates: workers 1 and 2 drain, 3 and 4 serve."""
    simulated.migrates = False
    run = begin()
    run.runner.open()
    run.serve()
    run.orders.restart(Renewal(keep=10.0))
    run.round()
    run.ready()
    return run


def test_a_worker_that_dies_is_replaced(run: Run) -> None:
    """At once after its first death, and the crash is counted."""
    run.round(1.0)
    run.end(1, 1)
    assert run.stages == {2: "SERVING", 3: "STARTING"}
    assert "exited with 1 while serving" in run.log


def test_a_successor_gets_the_very_listener(
    simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """Where nothing migrates: so what waits there is served by the next worker."""
    simulated.migrates = False
    run = begin()
    run.serve()
    cookie = run.wait(1, 3)
    run.end(1, 1)
    assert [one.cookie for one in run.worker(3).listeners] == [cookie]
    assert not simulated.lost


def test_where_connections_migrate_a_dead_workers_listener_is_closed(run: Run) -> None:
    """Its queue goes to those that share, half-open requests too."""
    cookie = run.wait(1, 3)
    run.end(1, 1)
    assert cookie not in run.held()
    assert run.simulated.queues[run.worker(2).listeners[0].cookie] == 3


def test_the_last_worker_keeps_its_listener(begin: Callable[..., Run]) -> None:
    """With nobody left who shares, what waits is the successor's."""
    run = begin(workers=1)
    run.serve()
    cookie = run.wait(1, 3)
    run.end(1, 1)
    assert [one.cookie for one in run.worker(2).listeners] == [cookie]


def test_a_listener_that_the_last_worker_bound_is_kept_until_another_shares(
    begin: Callable[..., Run],
) -> None:
    """No worker can be started on it: what waits moves once the successor gets connections."""
    run = begin(workers=1, bind_by="worker")
    run.round()
    cookie = run.bind(1)
    run.ready()
    run.wait(1, 3)
    run.end(1, 1)
    assert run.stages == {2: "STARTING"}
    assert run.held() == {cookie}
    successor = run.bind(2)
    run.round(0.01)
    assert run.held() == {cookie, successor}
    run.ready()
    run.round(0.01)
    assert run.held() == {successor}
    assert (run.simulated.queues[successor], run.simulated.lost) == (3, 0)


@pytest.mark.parametrize("migrates", [True, False])
def test_a_listener_that_a_worker_bound_is_closed_where_keeping_it_helps_nobody(
    simulated: Simulated, begin: Callable[..., Run], migrates: bool
) -> None:
    """Where another shares it moves at once; where nothing migrates nobody could ever take it."""
    simulated.migrates = migrates
    run = begin(workers=2 if migrates else 1, bind_by="worker")
    run.round()
    cookies = {run.bind(one) for one in (1, 2)[: run.instance.size]}
    run.ready()
    gone = run.worker(1).listeners[0].cookie
    run.end(1, 1)
    assert run.held() == cookies - {gone}


def test_deaths_that_come_quickly_put_the_next_start_off(run: Run) -> None:
    """The second crash within the window costs a tenth of a second."""
    run.end(1, 1)
    run.ready()
    run.end(3, 1)
    assert run.stages == {2: "SERVING"}
    assert run.instance.not_before > run.simulated.time
    run.round(0.2)
    assert run.stages == {2: "SERVING", 4: "STARTING"}


def test_too_many_deaths_end_the_instance(begin: Callable[..., Run]) -> None:
    """With more than the limit in the window and nobody serving: exit code 3."""
    run = begin(workers=1, crash_limit=2)
    run.serve()
    for worker in (1, 2, 3):
        run.end(worker, 1)
        run.round(0.5)
    assert run.instance.phase is Phase.ENDED
    assert run.service.exit_code == 3
    assert "3 workers died within 60 s and none is serving" in run.log


def test_a_first_worker_that_dies_ends_the_start(begin: Callable[..., Run]) -> None:
    """Nobody has been served yet: the instance gives up with its last words."""
    run = begin(output="prefix")
    run.round()
    run.simulated.print(run.worker(1).pid, "no module named app\n")
    run.end(1, 1)
    assert run.instance.phase is Phase.STOPPING
    assert run.service.exit_code == 3
    words = "its last words: no module named app"
    assert any(one.startswith("giving up: ") and words in one for one in run.log.lines)


@pytest.mark.parametrize("code", [0, -signal.SIGTERM, 128 + signal.SIGTERM])
def test_whoever_was_told_to_stop_is_no_crash(run: Run, code: int) -> None:
    """It is not counted, and not replaced; a wrapper says 128 + n where its server died of n."""
    run.ask("scale", workers=1)
    run.round(0.1)
    assert run.stages == {1: "SERVING", 2: "STOPPING"}
    run.end(2, code)
    assert run.stages == {1: "SERVING"}
    assert not run.instance.crashes
    assert "worker 1.2" in run.log
    assert "has stopped" in run.log


def test_connections_of_a_killed_worker_are_cut(run: Run) -> None:
    """It is killed after its time, by SIGKILL, and said so."""
    run.orders.stop()
    for _ in range(3):
        run.round(0.1)  # nobody waits at their listeners
    run.settle(11.0)

    def ended() -> bool:
        run.round()
        return not run.stages

    wait_until(ended, "the end of their processes")
    assert "is killed: it did not stop in time" in run.log
    assert "was killed; 0 connection(s) cut" in run.log
    assert run.runner.over()


def test_an_orphan_is_reaped_and_not_judged(run: Run) -> None:
    """A child that is no worker changes nothing."""
    before, lines = run.instance.to_json(), list(run.log.lines)
    run.simulated.adopt_orphan(os.getpid() + 1, 7)
    run.runner.ends.reap()
    assert run.instance.to_json() == before
    assert run.log.lines == lines


def test_an_earlier_supervisors_worker_ends_too(run: Run) -> None:
    """Its pidfd says so, although its exit status went elsewhere."""
    run.simulated.end(run.worker(1).pid, 0)
    run.simulated.reap()
    run.round()
    assert "its exit status went to an earlier supervisor" in run.log
    assert 1 not in run.stages


def test_what_waits_behind_a_dead_draining_worker_gets_a_finisher(draining: Run) -> None:
    """Another worker is started on its listener, takes no new connections, and stops when quiet."""
    cookie = draining.wait(1, 2)
    draining.end(1, 1)
    finisher = draining.worker(5)
    assert finisher.finisher
    assert [one.cookie for one in finisher.listeners] == [cookie]
    draining.ready()
    assert draining.shares() == {3: 1.0, 4: 1.0}
    draining.simulated.queues[cookie] = 0
    draining.round(30.0)
    assert draining.stages[5] == "STOPPING"
    draining.end(5)
    assert cookie not in draining.held()
    assert not draining.simulated.lost


def test_a_finisher_that_cannot_be_started_is_tried_again(draining: Run) -> None:
    """Clients that wait are not given up because there can be no process at the moment."""
    cookie = draining.wait(1, 2)
    draining.refuse("spawn")
    draining.end(1, 1)
    draining.round(1.0)
    assert cookie in draining.held()
    assert len([one for one in draining.log.lines if "spawn failed" in one]) == 1
    draining.give()
    draining.round(1.0)
    assert [one.cookie for one in draining.worker(max(draining.stages)).listeners] == [cookie]
    assert not draining.simulated.lost


def test_a_look_that_is_refused_when_a_worker_ends_is_made_again(draining: Run) -> None:
    """Until it is known what waits there the listener is kept, and then it is handed on."""
    cookie = draining.wait(1, 2)
    draining.refuse("snapshot")
    draining.end(1, 1)
    assert cookie in draining.held()
    draining.give()
    draining.round(1.0)
    assert draining.worker(max(draining.stages)).finisher
    assert not draining.simulated.lost


def test_when_a_finisher_dies_too_its_queue_is_counted(draining: Run) -> None:
    """There is no third try: what waits is lost, and in the status."""
    draining.wait(1, 2)
    draining.end(1, 1)
    draining.end(5, 1)
    assert draining.service.cut == 2
    assert "2 waiting connections are lost" in draining.log


def test_our_own_question_to_a_finisher_is_no_client(
    draining: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in the queue too when the finisher dies before it has accepted it."""
    draining.wait(1, 2)
    draining.end(1, 1)
    monkeypatch.setattr(Readiness, "left", lambda _: 1)
    draining.end(5, 1)
    assert draining.service.cut == 1
    assert "1 waiting connections are lost" in draining.log


def test_no_finisher_is_started_for_our_own_question(
    draining: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else waits behind the dead worker."""
    cookie = draining.wait(1, 1)
    monkeypatch.setattr(Readiness, "left", lambda _: 1)
    draining.end(1, 1)
    assert 5 not in draining.stages
    assert cookie not in draining.held()
    assert draining.service.cut == 0


def test_one_refusal_at_closing_does_not_keep_the_next_listener(begin: Callable[..., Run]) -> None:
    """A worker's listeners at every address are closed, whatever the first one meets."""
    run = begin(2)
    run.serve()
    run.refuse("leave")
    run.end(1, 1)
    assert run.held() == {
        held.cookie for worker in run.instance.living for held in worker.listeners
    }
    assert "closing a listener at" in run.log


def test_a_process_that_cannot_be_followed_is_no_worker(run: Run) -> None:
    """Its end would not be heard: it is killed, and its generation given up."""
    run.orders.restart()
    run.refuse("watch")
    run.round()
    run.give()
    run.round()
    assert run.instance.phase is Phase.SERVING
    assert run.stages == {1: "SERVING", 2: "SERVING"}
    assert set(run.service.processes.by_worker) == {1, 2}
    assert "could not be started" in run.log


def test_what_a_worker_printed_before_it_died_is_passed_on(begin: Callable[..., Run]) -> None:
    """Before what is said of its end."""
    run = begin(output="prefix")
    run.serve()
    run.simulated.print(run.worker(1).pid, "one\ntwo\n")
    run.end(1, 1)
    printed = [run.log.lines.index(f"worker 1.1 | {word}") for word in ("one", "two")]
    died = next(at for at, line in enumerate(run.log.lines) if "exited with 1" in line)
    assert printed[0] < printed[1] < died
