"""What workers print, on its way to the log: bounded, fair, in order, and counted where dropped."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

import pytest

from segue.supervisor.control.log import Log
from segue.supervisor.loop import HasFileno, Loop, Rank
from segue.supervisor.run import flow as flows
from segue.supervisor.run.flow import PAUSE, ROUND, TURN, Flow
from segue.supervisor.workers.pipe import Pipe


class CountingLoop(Loop):
    """A loop that is never run and counts what it watches."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(lambda _: None, scene.now)
        self.scene = scene

    def watch(
        self, file: HasFileno | int, handler: Callable[[], object], rank: Rank = Rank.ASKED
    ) -> None:
        self.scene.watched += 1
        self.scene.files.append(file)
        super().watch(file, handler, rank)

    def unwatch(self, file: HasFileno | int) -> None:
        self.scene.watched -= 1
        super().unwatch(file)


class Scene:
    """A flow whose clock is set by hand and whose log is a pipe that is read here."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.watched = 0
        self.files: list[HasFileno | int] = []
        self.log, self._writer = os.pipe()
        os.set_blocking(self.log, False)
        self._saved: tuple[int, ...] = ()
        self.flow = Flow(Log(now=self.now), CountingLoop(self))
        self.pipes: list[Pipe] = []

    def now(self) -> float:
        return self.clock

    def worker(self, label: str) -> Pipe:
        """A new pipe that is passed on."""
        if not self._saved:
            # Not before the test itself: pytest sets its own between a fixture and a test.
            self._saved = os.dup(1), os.dup(2)
            for stream in (1, 2):
                os.dup2(self._writer, stream)
        pipe = Pipe.open()
        pipe.label, pipe.fields = label, {"worker": len(self.pipes)}
        self.pipes.append(pipe)
        self.flow.add(pipe)
        return pipe

    def read(self) -> list[str]:
        """The lines that the log has got since it was read last."""
        data = b""
        while True:
            try:
                data += os.read(self.log, 1 << 20)
            except BlockingIOError:
                return data.decode().splitlines()

    def rounds(self, most: int = 10_000) -> list[str]:
        """The log of as many rounds as there is something to pass on."""
        found: list[str] = []
        for _ in range(most):
            done = self.flow.round()
            found += self.read()
            if not done:
                break
        return found

    def close(self) -> None:
        self.flow.loop.close()
        for stream, saved in zip((1, 2), self._saved, strict=False):
            os.dup2(saved, stream)
        for descriptor in (self.log, self._writer, *self._saved):
            os.close(descriptor)
        for pipe in self.pipes:
            pipe.started()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def test_a_round_passes_on_a_bounded_number_of_lines_of_each(scene: Scene) -> None:
    """Nobody has more than his turn, nor all together more than the round."""
    for name in "abcdef":
        os.write(scene.worker(name).writer, b"\n" * 60_000)
    assert scene.flow.round() == ROUND
    first = [line[0] for line in scene.read()]
    assert {name: first.count(name) for name in set(first)} == dict.fromkeys(set(first), TURN)
    assert scene.flow.round() == ROUND
    second = {line[0] for line in scene.read()}
    assert set("abcdef") - set(first) <= second, "those who had no turn are next"


def test_normal_output_loses_nothing_and_keeps_its_order(scene: Scene) -> None:
    """Ten thousand lines of each of three, written at once."""
    for name in "abc":
        data = b"".join(b"%s%d\n" % (name.encode(), number) for number in range(10_000))
        os.write(scene.worker(name).writer, data)
    lines = scene.rounds()
    for name in "abc":
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [f"{name} | {name}{number}" for number in range(10_000)]
    assert len(lines) == 30_000


def test_a_flood_is_dropped_and_counted_and_the_count_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its burst a worker is not passed on for a moment; others are, and nobody waits."""
    monkeypatch.setattr(flows, "BURST", 1000.0)
    loud, other = scene.worker("loud"), scene.worker("other")
    os.write(loud.writer, b"x\n" * 30_000)
    passed = len(scene.rounds())
    assert 1000 <= passed <= 1000 + TURN
    os.write(other.writer, b"heard\n")
    os.write(loud.writer, b"x\n" * 30_000)
    assert scene.rounds() == ["other | heard"]
    scene.clock += PAUSE
    assert scene.flow.round() == 0
    left = 60_000 - passed
    assert scene.read() == [
        f"segue: loud prints more than 10,000 lines a second: {left:,} of them are left out here"
    ]
    assert scene.flow.left_out(loud) == left
    os.write(loud.writer, b"again\n")
    assert scene.rounds() == ["loud | again"]


def test_last_words_are_kept_in_the_middle_of_a_flood(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a worker that ends, the last twenty lines are passed on, after the count."""
    monkeypatch.setattr(flows, "BURST", 1000.0)
    loud = scene.worker("loud")
    os.write(loud.writer, b"x\n" * 30_000)
    scene.rounds()
    os.write(loud.writer, b"y\n" * 30_000 + b"I die")
    assert scene.flow.end(loud) == "I die"
    lines = scene.read() + scene.rounds()
    assert "are left out here" in lines[0]
    assert lines[1:] == ["loud | y"] * 19 + ["loud | I die"]
    assert not scene.flow.ending


def test_the_rest_of_a_worker_that_has_ended_is_passed_on_in_turns(scene: Scene) -> None:
    """All of it, though not at once; its last line is known before."""
    pipe = scene.worker("a")
    os.write(pipe.writer, b"".join(b"%d\n" % number for number in range(20_000)))
    assert scene.flow.end(pipe) == "19999"
    first = scene.read()
    assert len(first) == TURN
    assert scene.flow.ending
    lines = first + scene.rounds()
    assert lines == [f"a | {number}" for number in range(20_000)]
    assert not scene.flow.ending


def test_a_log_that_is_not_read_holds_workers_back_and_then_drops(scene: Scene) -> None:
    """Nothing waits for it meanwhile: lines stay in the pipe for a moment, then are counted."""
    pipe = scene.worker("a")
    os.write(pipe.writer, b"z" * 99 + b"\n" + (b"z" * 99 + b"\n") * 5000)
    while scene.flow.round():
        pass
    assert scene.watched == 0, "no use in being woken"
    assert scene.flow.log.lost == 0
    scene.clock += 0.3
    scene.flow.round()
    assert scene.flow.log.lost > 0
    assert scene.watched == 1
    while scene.flow.round():
        pass
    dropped = scene.flow.log.lost
    got = len(scene.read())
    assert got + dropped == 5001
    os.write(pipe.writer, b"now\n")
    assert scene.rounds() == [f"segue: {dropped} lines were not read", "a | now"]


def test_what_was_read_in_part_goes_to_a_successor(scene: Scene) -> None:
    """Whole lines are passed on before; the beginning of one is handed over as it is."""
    pipe = scene.worker("a")
    os.write(pipe.writer, b"x\n" * 1000 + b"beg\xff")
    scene.flow.round()
    assert scene.flow.hand_over() == {pipe.reader: "beg\xff"}
    assert scene.read() == ["a | x"] * 1000


def test_a_worker_that_has_closed_its_output_wakes_nobody(scene: Scene) -> None:
    """The end of a pipe is reported for ever; what was printed before is passed on."""
    pipe = scene.worker("a")
    os.write(pipe.writer, b"to the end\nhalf")
    pipe.started()  # the last writer is gone
    assert scene.rounds() == ["a | to the end"]
    scene.flow.round()
    woken = select.poll()
    for file in scene.files:
        woken.register(file, select.POLLIN)
    assert woken.poll(0) == []
    assert scene.flow.due is None
    assert scene.flow.end(pipe) == "half"
    assert scene.rounds() == ["a | half"]
    assert not scene.flow.ending
