"""What workers without a record are taken for.  Pure."""

from __future__ import annotations

import pytest

from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.plan import plan
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.run.unrecorded import arranged
from segue.supervisor.settings import Bind, Settings

NOW = 1000.0


def settings(ready: str = "accept") -> Settings:
    bind = Bind.parse("127.0.0.1:8080", 0)
    return Settings(binds=(bind,), command=("serve",), workers=2, ready=ready)  # type: ignore[arg-type]


def of(*generations: int, ready: str = "accept") -> Instance:
    """An instance of one worker a generation, which were started long ago."""
    workers = [
        Worker(place, number, 100 + place, started=10.0)
        for place, number in enumerate(generations, 1)
    ]
    return arranged(workers, settings(ready), NOW)


def stages(instance: Instance) -> dict[int, str]:
    return {one.generation: one.stage.name for one in instance.workers.values()}


def test_one_generation_serves() -> None:
    """The next generation and the next worker get numbers that are not in use."""
    one = of(7, 7)
    assert (one.phase, one.working, one.newcomer) == (Phase.SERVING, 7, None)
    assert (one.last_generation, one.last_worker) == (7, 2)
    assert stages(one) == {7: "SERVING"}


def test_of_two_the_newer_must_be_ready_before_it_serves() -> None:
    """It may have been starting; and it has the whole time to become ready again."""
    one = of(1, 2)
    assert (one.phase, one.working, one.newcomer) == (Phase.RENEWING, 1, 2)
    assert stages(one) == {1: "SERVING", 2: "STARTING"}
    assert "Abandon" not in str(plan(one, {}, Limits(), NOW))


def test_older_ones_drain() -> None:
    """From now on: since when they have is not known."""
    one = of(1, 2, 5)
    assert stages(one) == {1: "DRAINING", 2: "SERVING", 5: "STARTING"}
    assert one.workers[1].stage_since == one.workers[1].draining_since == NOW


@pytest.mark.parametrize("generations", [(1, 2), (1, 2, 3)])
def test_who_only_notifies_is_not_asked_again(generations: tuple[int, ...]) -> None:
    """It would never be found ready: the newest serves."""
    one = of(*generations, ready="notify")
    assert (one.phase, one.working, one.newcomer) == (Phase.SERVING, generations[-1], None)
    assert stages(one) == {**dict.fromkeys(generations, "DRAINING"), generations[-1]: "SERVING"}
