"""The loop of ``segue attach``, turn by turn, over listeners of this very process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.policy.clients import IPV4, close, connect, queue
from tests.waiting import wait_until

from segue.engine.attach import attach
from segue.engine.generations import Generations
from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice
from segue.linux.sockopt import cookie, open_listener
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer
from segue.supervisor.attach.follower import Follower
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.attach.status import report
from segue.supervisor.control.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]

Make = Callable[[EngineChoice], Follower]


@pytest.fixture
def make(
    netns: int, tmp_path: Path, bpf_directory: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """Attends to whoever listens when it is called."""
    monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
    with ExitStack() as stack:
        observer = stack.enter_context(Observer())

        def made(choice: EngineChoice) -> Follower:
            paths, pins = Paths.of("t"), Pins("t", bpf_directory)
            rule, now = Rule.parse("start"), time.monotonic()
            attached = attach(IPV4, observer, pins, rule, Generations(), now)
            stack.callback(pins.remove)
            one = Follower(
                AttachSettings(IPV4), paths, paths.lock(), observer, attached, pins, choice
            )
            stack.callback(one.close)
            return one

        yield made


def test_where_migration_wakes_nobody_the_others_are_nudged(make: Make) -> None:
    """A listener went with a queue: short connections go to whoever has it now."""
    with open_listener(IPV4, backlog=64) as stays, open_listener(IPV4, backlog=64) as goes:
        one = make(EngineChoice("migrate", nudge=True))
        waiting = queue(20)
        with Observer() as observer:
            had = observer.queued(IPV4)[cookie(stays)]
            goes.close()

            def nudged() -> bool:
                one.tick()
                return observer.queued(IPV4)[cookie(stays)] > 20

            assert had < 20
            wait_until(nudged, "a connection more than there were")
        close(waiting)


def test_a_newcomer_is_asked_and_then_shared_to(make: Make) -> None:
    """Starting, until it has accepted the connection that is made to it alone."""
    with open_listener(IPV4, backlog=64) as first:
        one = make(EngineChoice("migrate"))
        with open_listener(IPV4, backlog=64) as second:

            def asked() -> bool:
                one.tick()
                with Observer() as observer:
                    return observer.queued(IPV4)[cookie(second)] == 1

            wait_until(asked, "a knock")
            stages = {worker.id: worker.stage for worker in report(one.attachment).workers}
            assert stages == {0: "serving", 1: "starting"}
            with connect(IPV4), second.accept()[0]:

                def shared() -> bool:
                    one.tick()
                    return len(one.attachment.attached.weights) == 2

                wait_until(shared, "a share")
            first.accept()[0].close()
            assert report(one.attachment).fronts[0].counts["new"] == 2
