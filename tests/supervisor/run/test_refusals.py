"""Whatever the kernel refuses at whatever moment: nobody is lost, nothing leaks, and it goes on."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
from hypothesis import strategies as st
from tests import leaks
from tests.supervisor.run.doubles import Run, Simulated, settings_of

from segue.supervisor.lifecycle.stages import Phase, Stage

ROUNDS = 30  # more than any scenario needs once nothing is refused any more


class Action(NamedTuple):
    """What happens: an order with its argument, or something that befalls a worker."""

    what: str
    which: int = 0


ACTIONS = st.one_of(
    st.sampled_from([Action("restart"), Action("canary"), Action("keep"), Action("rollback")]),
    st.sampled_from([Action("promote"), Action("ready"), Action("ended"), Action("pass")]),
    st.builds(Action, st.just("crash"), st.integers(0, 3)),
    st.builds(Action, st.just("wait"), st.integers(0, 3)),
    st.builds(Action, st.just("scale"), st.integers(1, 3)),
)
ORDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "restart": ("restart", {}),
    "canary": ("restart", {"canary": 10}),
    "keep": ("restart", {"keep": 1.0}),
    "rollback": ("rollback", {}),
    "promote": ("promote", {}),
}


# Without a share nobody comes to wait.
SERVED = {Stage.SERVING, Stage.DRAINING, Stage.STOPPING}


class Scenario:
    """One run through these actions, with its clients."""

    def __init__(self, directory: Path, *, migrates: bool, addresses: int) -> None:
        self.simulated = Simulated()
        self.simulated.migrates = migrates
        self.given_up = False
        self.run = Run(directory, settings_of(addresses), self.simulated)
        self.run.runner.open()
        self.run.serve()

    def do(self, action: Action) -> None:
        run = self.run
        match action.what:
            case "ready":
                run.ready()
            case "ended":
                self.end_stopped()
            case "pass":
                run.round(1.1)
            case "crash" | "wait":
                living = run.instance.living
                if living:
                    worker = living[action.which % len(living)]
                    if action.what == "crash":
                        # A queue that has killed two workers is given up.
                        self.given_up |= worker.finisher
                        run.end(worker.id, 1)
                    elif worker.listeners and worker.stage in SERVED:
                        run.wait(worker.id, 3)
            case "scale":
                self.ask("scale", workers=action.which)
            case order:
                verb, given = ORDERS[order]
                self.ask(verb, **given)

    def ask(self, verb: str, **given: Any) -> None:
        self.run.ask(verb, **given)
        self.check()

    def round(self, seconds: float = 0.01) -> None:
        self.run.round(seconds)
        self.check()

    def end_stopped(self) -> None:
        for one in self.run.instance.living:
            if one.stage in {Stage.STOPPING, Stage.KILLED}:
                self.run.end(one.id, 0)
        self.check()

    def check(self) -> None:
        """What holds after every round."""
        run, instance = self.run, self.run.instance
        assert {one.id for one in instance.living} == set(run.service.processes.by_worker)
        owned = [one.cookie for worker in instance.living for one in worker.listeners]
        owned += [one.cookie for unclaimed in run.service.unclaimed for one in unclaimed.listeners]
        assert Counter(owned) == Counter(run.held()), "each held listener is somebody's"
        for front, steering in zip(run.service.fronts, self.simulated.steerings, strict=True):
            assert front.sockets.keys() == steering.members.keys()
        if instance.phase not in {Phase.STOPPING, Phase.ENDED} and not self.given_up:
            assert not self.simulated.lost, "clients that waited were lost"

    def settle(self) -> None:
        """Nothing is refused any more, workers do as they are told, and time passes."""
        for _ in range(ROUNDS):
            for worker in self.run.instance.living:
                if worker.stage in {Stage.SERVING, Stage.DRAINING}:
                    for held in worker.listeners:
                        self.simulated.queues[held.cookie] = 0
            self.run.ready()
            self.end_stopped()
            self.round(0.5)

    def check_serving(self) -> None:
        """It is as it would be if nothing had been refused but the orders that heard so."""
        instance, size = self.run.instance, 2
        for client in self.run.clients:
            if client.end is not None and "workers" in client.end:
                size = client.end["workers"]
        assert instance.phase is Phase.SERVING
        assert list(self.run.stages.values()) == ["SERVING"] * size
        for front, steering in zip(self.run.service.fronts, self.simulated.steerings, strict=True):
            sharing = {
                held.slot
                for worker, _ in instance.shared
                for held in instance.workers[worker].listeners
                if held.bind == front.number
            }
            assert steering.weights.keys() == front.sockets.keys() == sharing

    def stop(self) -> None:
        self.ask("stop")
        for _ in range(ROUNDS):
            self.end_stopped()
            if self.run.runner.over():
                break
            self.round(0.5)
        assert self.run.runner.over()
        assert not any(front.sockets for front in self.run.service.fronts)
        self.run.runner.end()
        self.run.service.waiting.close()

    def check_answers(self) -> None:
        for client in self.run.clients:
            assert client.end is not None, "whoever asked hears how it ended"

    def close(self) -> None:
        self.run.close()


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    actions=st.lists(ACTIONS, max_size=6),
    at=st.integers(0, 80),
    length=st.sampled_from([1, 1, 2, 5, 20]),
    migrates=st.booleans(),
    addresses=st.sampled_from([1, 2]),
)
def test_no_refusal_changes_how_it_ends(
    actions: list[Action], at: int, length: int, migrates: bool, addresses: int
) -> None:
    """Once the kernel gives again what it refused, the instance is where it would have been."""
    before = leaks.descriptors()
    with tempfile.TemporaryDirectory() as directory:
        scenario = Scenario(Path(directory), migrates=migrates, addresses=addresses)
        try:
            refusals = scenario.simulated.refusals
            start = len(refusals.asked) + at
            refusals.numbers = range(start, start + length)
            for action in actions:
                scenario.do(action)
                scenario.check()
            refusals.numbers = range(0)
            scenario.settle()
            # A second canary may have waited for the first.
            while scenario.run.instance.phase is Phase.CANARY:
                scenario.ask("promote")
                scenario.settle()
            scenario.check_serving()
            scenario.stop()
            scenario.check_answers()
        finally:
            scenario.close()
    assert leaks.descriptors() == before
