"""The loop of ``segue attach`` over a recorded group: what it follows, says, and leaves behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.supervisor.attach.doubles import HERE, RecordedGroup, RecordingSteering, group

from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice
from segue.supervisor.attach import account
from segue.supervisor.attach.follower import Follower
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.control.doors import KEEP_EVERY
from segue.supervisor.control.paths import Paths


class Scene:
    """A follower of two generations, whose clock is set by hand."""

    def __init__(self, directory: Path) -> None:
        self.steering: RecordingSteering
        self.seen: RecordedGroup
        attached, self.steering, self.seen = group(1, 2)
        self.paths = Paths(f"{directory}/t")
        settings = AttachSettings(HERE, name="t", traced=False)
        pins, choice = Pins("t", str(directory)), EngineChoice("migrate")
        self.follower = Follower(
            settings, self.paths, self.paths.lock(), self.seen, attached, pins, choice
        )
        self.time = self.follower.loop.now()
        self.follower.loop.now = lambda: self.time

    def turn(self, seconds: float = 60.0) -> None:
        """What follows so much later."""
        self.time += seconds
        self.follower.settle()
        self.follower.tick()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield made
    made.follower.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_who_goes_has_its_share_taken_over(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """The rest of the group has everything, the record says so, and so does the log."""
    del scene.seen.listeners[101]
    scene.turn()
    assert scene.steering.shares[-1] == {0: 1.0}
    assert scene.steering.by_slot == {0: 100}
    assert [one["slot"] for one in account.read(scene.paths)["group"]["members"]] == [0]
    assert "generation 1 has 1 listener(s) and 100 %" in capfd.readouterr().err


def test_where_nobody_listens_any_more_that_is_said(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once; who comes next is waited for."""
    scene.turn()
    scene.seen.listeners.clear()
    for _ in range(3):
        scene.turn()
    assert capfd.readouterr().err.count(f"no process listens at {HERE}") == 1
    assert not scene.follower.over()


def test_files_that_somebody_removed_are_made_again(scene: Scene) -> None:
    """The socket, and the record, by which the next attach goes on."""
    scene.follower.doors.open(scene.follower.orders.do)
    scene.turn()
    for name in (scene.paths.control, scene.paths.lock_file, scene.paths.record):
        os.unlink(name)
    scene.turn(2 * KEEP_EVERY)
    for name in (scene.paths.control, scene.paths.lock_file, scene.paths.record):
        assert os.path.exists(name)
    os.unlink(scene.paths.record)
    scene.turn(2 * KEEP_EVERY)
    assert os.path.exists(scene.paths.record)


def while_following(scene: Scene, do: Callable[[], object]) -> int:
    """Run the loop, and do this at its first look."""
    scene.follower.loop.now = time.monotonic
    scene.seen.on_look = do
    return scene.follower.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_loop_and_leaves_the_program(
    scene: Scene, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the shares as they are."""
    assert while_following(scene, lambda: signal.raise_signal(number)) == 0
    assert not scene.steering.shares
    assert account.read(scene.paths)["address"] == str(HERE)
    assert "the program stays attached" in capfd.readouterr().err


def test_what_cannot_be_listed_ends_nothing(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and tried again until it can be."""
    tries: list[int] = []

    def fail() -> None:
        tries.append(0)
        if len(tries) == 3:
            signal.raise_signal(signal.SIGTERM)
        raise OSError("no buffer space")

    assert while_following(scene, fail) == 0
    assert capfd.readouterr().err.count("no buffer space") == 1
