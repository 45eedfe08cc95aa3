"""Orders of a running instance: what each does, and that a refused one changes nothing."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run, Simulated

from segue.errors import KernelError, NotSupported, SegueError, UsageError
from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.workers.processes import Process


def nothing(_: Run) -> None:
    """It serves, and no restart is under way."""


def renewing(run: Run) -> None:
    run.orders.restart()
    run.round()


def canary(run: Run) -> None:
    run.orders.restart(Renewal(percent=10.0))
    run.round()
    run.ready()


def kept(run: Run) -> None:
    run.orders.restart(Renewal(keep=100.0))
    run.round()
    run.ready()


def stopping(run: Run) -> None:
    run.orders.stop()
    run.round()


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[], None]]:
    """From its call on this process gets no further descriptor, for as long as the test runs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit() -> None:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("arrive", "verb", "given", "words"),
    [
        (nothing, "rollback", {}, "nothing to go back to"),
        (nothing, "promote", {}, "no canary to promote"),
        (nothing, "shift", {"percent": 5.0}, "no canary to shift"),
        (nothing, "weights", {"weights": {"1": 0.5, "9": 1}}, "there is no worker9"),
        (nothing, "scale", {"workers": 0}, "between 1 and 512"),
        (nothing, "scale", {"workers": 513}, "between 1 and 512"),
        (nothing, "restart", {"canary": 0}, "more than 0"),
        (nothing, "restart", {"until": "ready"}, "serving or drained"),
        (nothing, "restart", {"until": "drained", "canary": 5}, "a canary stops no worker"),
        (nothing, "restart", {"kanary": 5}, "did you mean 'canary'?"),
        (nothing, "trace", {"bind": "other"}, "nothing is bound"),
        (nothing, "trace", {}, "engine migrate"),
        (nothing, "rescue", {"after": "50ms"}, "a group that Segue did not start"),
        (renewing, "scale", {"workers": 3}, "wait until generation 2 serves or is given up"),
        (renewing, "promote", {}, "no canary"),
        (canary, "scale", {"workers": 3}, "wait until generation 2, a canary, is promoted"),
        (stopping, "restart", {}, "the instance stops"),
        (stopping, "restart", {"replace": True}, "the instance stops"),
        (stopping, "rollback", {}, "nothing to go back to: the instance stops"),
        (stopping, "scale", {"workers": 3}, "the instance stops"),
    ],
)
def test_a_refused_order_changes_nothing(
    run: Run, arrive: Callable[[Run], None], verb: str, given: dict[str, Any], words: str
) -> None:
    """The client hears why, nobody else hears anything, and the instance is as it was."""
    arrive(run)
    run.round(0.1)
    before, lines, shares = run.instance.to_json(), list(run.log.lines), run.shares()
    client = run.ask(verb, **given)
    assert client.end is not None
    assert client.end["exit"] != 0
    assert words in client.end["error"]
    assert run.instance.to_json() == before
    assert run.log.lines == lines
    assert run.shares() == shares
    assert not run.service.waiting.handed()


def test_moving_at_once_is_refused_where_nothing_migrates(
    simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """Before anything is started."""
    simulated.migrates = False
    run = begin()
    run.serve()
    with pytest.raises(NotSupported, match="moving connections at once"):
        run.orders.restart(Renewal(at_once=True))
    assert run.instance.phase is Phase.SERVING
    assert run.instance.renewal == Renewal()


def test_a_canary_is_refused_where_shares_are_not_weighed(run: Run) -> None:
    """It must not become a full restart."""
    run.simulated.steerings[0].weighs = False
    with pytest.raises(NotSupported, match="a canary"):
        run.orders.restart(Renewal(percent=10.0))
    assert run.instance.phase is Phase.SERVING
    assert run.instance.last_generation == 1


def test_a_canary_whose_files_cannot_be_made_again_does_not_begin(run: Run) -> None:
    """Its refusal leaves no newcomers, and no percent that a later restart would have."""
    Path(run.paths.control).unlink()
    run.paths.refusals.kinds.add("lock")
    with pytest.raises(KernelError):
        run.orders.restart(Renewal(percent=10.0))
    assert (run.instance.phase, run.instance.newcomer) == (Phase.SERVING, None)
    run.give()
    run.orders.restart()
    run.round()
    run.ready()
    assert run.instance.phase is Phase.SERVING
    assert run.shares() == {3: 1.0, 4: 1.0}


def test_a_stop_does_not_fail_for_a_service_manager_that_cannot_be_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, few_descriptors: Callable[[], None]
) -> None:
    """It has begun by then: an error would be told of a stop that goes on."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    few_descriptors()
    run.orders.stop()
    assert run.instance.phase is Phase.LEAVING
    assert "stopping: every worker is told to finish" in run.log


def test_a_restart_without_descriptors_is_refused_before_it_begins(
    run: Run, few_descriptors: Callable[[], None]
) -> None:
    """Whether the instance's files are there cannot be told: nothing is closed and made anew."""
    doors = run.service.doors
    before = (
        run.instance.to_json(),
        doors.lock,
        doors.inbox,
        doors.clients and doors.clients.control,
    )
    few_descriptors()
    with pytest.raises(OSError, match="Too many open files"):
        run.orders.restart()
    after = run.instance.to_json(), doors.lock, doors.inbox, doors.clients and doors.clients.control
    assert after == before


def test_a_rollback_gives_newcomers_up(run: Run) -> None:
    """They are told to stop, and the older workers never lost their shares."""
    renewing(run)
    client = run.ask("rollback")
    assert client.end == {"exit": 0, "generation": 1}
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STOPPING", 4: "STOPPING"}
    assert run.signals(3) == {signal.SIGTERM}


def test_a_rollback_takes_a_canarys_part_back(run: Run) -> None:
    """All new connections go to the working generation again; the canary drains."""
    canary(run)
    run.ask("rollback")
    assert run.shares() == {1: 1.0, 2: 1.0}
    assert run.instance.phase is Phase.SERVING
    assert set(run.stages) == {1, 2, 3, 4}
    run.end(1)
    assert "may be the version that was rolled back" in run.log


def test_a_canary_that_fails_is_rolled_back(run: Run) -> None:
    """What is installed may be its version, which a worker that is replaced would run."""
    canary(run)
    run.end(3, 1)
    assert run.instance.phase is Phase.SERVING
    run.end(1)
    assert "may be the version that was rolled back" in run.log


def test_a_rollback_goes_back_to_kept_workers(run: Run) -> None:
    """They serve again at once, and are not newly started."""
    kept(run)
    client = run.ask("rollback")
    assert client.end == {"exit": 0, "generation": 1}
    assert run.shares() == {1: 1.0, 2: 1.0}
    assert (run.instance.working, run.instance.rolled_back) == (1, True)


def test_a_promoted_canary_takes_everything(run: Run) -> None:
    """It is the working generation from then on."""
    canary(run)
    client = run.ask("promote")
    assert client.end == {"exit": 0, "generation": 2}
    assert run.shares() == {3: 1.0, 4: 1.0}
    assert run.instance.working == 2


@pytest.mark.parametrize(
    ("percent", "phase", "working"),
    [(0.0, Phase.SERVING, 1), (50.0, Phase.CANARY, 1), (100.0, Phase.SERVING, 2)],
)
def test_a_canary_is_shifted(run: Run, percent: float, phase: Phase, working: int) -> None:
    """0 is a rollback, 100 a promotion, and what is between changes the shares."""
    canary(run)
    client = run.ask("shift", percent=percent)
    assert client.end is not None
    assert client.end["exit"] == 0
    assert (run.instance.phase, run.instance.working) == (phase, working)
    if phase is Phase.CANARY:
        assert len(set(run.shares().values())) == 1


def test_weights_multiply_shares(run: Run) -> None:
    """Until the worker ends."""
    client = run.ask("weights", weights={"2": 0.25})
    assert client.end == {"exit": 0}
    assert run.shares() == {1: 1.0, 2: 0.25}


def test_a_next_supervisor_knows_of_shifts_and_weights(run: Run) -> None:
    """They are in the record as soon as they are answered: a crash does not undo them."""
    canary(run)
    run.ask("shift", percent=40)
    run.ask("weights", weights={"2": 0.25})
    record = run.service.paths.read_record()
    assert record is not None
    assert record["instance"]["renewal"]["percent"] == 40
    assert record["instance"]["factors"] == {"2": 0.25}


def test_an_instance_grows_and_shrinks(run: Run) -> None:
    """A new worker is started; the youngest lose their shares and stop."""
    run.ask("scale", workers=3)
    run.ready()
    assert run.shares().keys() == {1, 2, 3}
    run.ask("scale", workers=1)
    run.round(0.1)
    assert run.stages == {1: "SERVING", 2: "STOPPING", 3: "STOPPING"}


def test_a_stop_ends_every_worker(run: Run) -> None:
    """Gracefully, by the stop signal of the settings."""
    stopping(run)
    run.round(0.1)  # handshakes may have been under way
    assert [run.signals(one) for one in (1, 2)] == [{signal.SIGTERM}] * 2
    assert not run.service.exit_code


def test_a_signal_to_stop_at_once_kills(run: Run) -> None:
    """The exit code is that of a program that the signal ended."""
    stopping(run)
    run.orders.signals[signal.SIGQUIT](signal.SIGQUIT)
    assert set(run.stages.values()) == {"KILLED"}
    assert run.service.exit_code == 128 + signal.SIGQUIT


def test_one_that_may_not_be_killed_stops_no_others_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said; the plan tries again at the end of the stop timeout."""
    kill, refuses = Process.kill, True

    def killed(process: Process) -> None:
        if refuses and process.worker.id == 1:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        kill(process)

    monkeypatch.setattr(Process, "kill", killed)
    run.orders.signals[signal.SIGQUIT](signal.SIGQUIT)
    assert run.stages == {1: "STOPPING", 2: "KILLED"}
    assert "killing worker 1.1 (pid" in run.log
    refuses = False
    run.round(60.0)
    assert "worker 1.1" in next(one for one in run.log.lines if "did not stop in time" in one)


def test_a_second_order_to_stop_does_not_kill(run: Run) -> None:
    """Two shells that ask mean the same."""
    run.ask("stop")
    run.ask("stop")
    assert set(run.stages.values()) == {"STOPPING"}


def test_a_stop_before_anybody_serves_has_no_delay_and_says_so(begin: Callable[..., Run]) -> None:
    """There is nobody to tell; whoever asked for a delay hears why there is none."""
    run = begin(stop_delay=5.0)
    run.runner.open()
    run.round()
    run.ask("stop")
    assert run.instance.phase in {Phase.STOPPING, Phase.ENDED}
    said = "(--stop-delay is for workers that serve, and none does yet)"
    assert f"stopping: every worker is told to finish {said}" in run.log


def test_a_stop_of_workers_that_serve_has_its_delay(begin: Callable[..., Run]) -> None:
    """Until then nothing is refused, and nobody is told to stop."""
    run = begin(stop_delay=5.0)
    run.runner.open()
    run.serve()
    run.ask("stop")
    assert run.instance.phase is Phase.LEAVING
    assert "stopping in 5 s: workers serve on" in run.log
    run.round(5.0)
    run.round(0.1)
    assert run.instance.phase in {Phase.STOPPING, Phase.ENDED}


def test_a_fast_stop_kills_at_once(run: Run) -> None:
    """Whatever stage a worker is in."""
    renewing(run)
    run.ask("stop", fast=True)
    run.round(0.1)
    assert run.instance.phase in {Phase.STOPPING, Phase.ENDED}
    assert run.service.exit_code == 128 + signal.SIGKILL


def test_signals_ask_for_the_same(run: Run) -> None:
    """SIGTTIN and SIGTTOU change the size by one, SIGHUP restarts."""
    signals = run.orders.signals
    signals[signal.SIGTTIN](signal.SIGTTIN)
    assert run.instance.size == 3
    signals[signal.SIGTTOU](signal.SIGTTOU)
    assert run.instance.size == 2
    signals[signal.SIGHUP](signal.SIGHUP)
    run.settle()
    assert run.instance.phase is Phase.RENEWING


def test_a_size_that_cannot_be_is_refused_by_signal_too(begin: Callable[..., Run]) -> None:
    """One worker less than one is none."""
    run = begin(workers=1)
    run.serve()
    with pytest.raises(UsageError):
        run.orders.signals[signal.SIGTTOU](signal.SIGTTOU)
    assert run.instance.size == 1


def test_drops_are_told_where_they_are_drops(run: Run) -> None:
    """With TCP_DEFER_ACCEPT the kernel counts one for each connection."""
    (held,) = run.worker(1).listeners
    listener = run.service.fronts[0].sockets[held.slot]
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    answer = run.ask("status").end
    assert answer is not None
    workers = answer["status"]["workers"]
    assert [one["drops"] for one in workers] == [None, 0]


def test_status_is_one_look(run: Run) -> None:
    """It has phase, generations and workers, and changes nothing."""
    before = run.instance.to_json()
    client = run.ask("status")
    assert client.end is not None
    status = client.end["status"]
    assert (status["phase"], status["working"], status["size"]) == ("serving", 1, 2)
    assert [one["id"] for one in status["workers"]] == [1, 2]
    assert run.instance.to_json() == before


def test_new_code_that_is_refused_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client hears why, and the old code goes on."""

    def refuse(_: object) -> None:
        raise SegueError("the new code does not start")

    monkeypatch.setattr("segue.supervisor.run.upgrade.prepare", refuse)
    client = run.ask("reexec")
    assert client.said == ["trying the new code"]
    assert client.end == {"exit": 1, "error": "the new code does not start"}
    assert run.service.upgrade is None
    assert not run.service.waiting.handed()


def test_what_a_manager_is_told(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The service manager hears of a restart that begins and of one that is over, in this order."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        renewing(run)
        assert manager.recv(1000).startswith(b"RELOADING=1\nSTATUS=generation 2 is starting")
        run.ready()
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=generation 2 serves")
        run.orders.stop()
        assert manager.recv(1000).startswith(b"STOPPING=1\nSTATUS=stopping")


@pytest.mark.parametrize("refused", range(1, 4))
def test_doors_that_could_not_be_opened_again_are_opened_later(run: Run, refused: int) -> None:
    """Lock, control socket and inbox: whichever the kernel refuses at first, none stays away."""
    Path(run.paths.control).unlink()
    calls = run.simulated.refusals
    kinds = [calls.asked.count("lock"), calls.asked.count("watch")]
    run.simulated.time += 2.0
    calls.after = {"lock": kinds[0]} if refused == 1 else {"watch": kinds[1] + refused - 2}
    run.round()
    calls.after = {}
    run.round(2.0)
    doors = run.service.doors
    assert doors.inbox is not None
    assert Path(run.paths.notify).exists()
    client = run.ask("status")
    assert client.end is not None
    assert client.end["exit"] == 0
