"""--balance queue: a slow worker gets less, as long as it is slow, and nobody is lost by it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.bpf.objects import GOLDEN
from tests.supervisor.instance import Instance, load
from tests.waiting import wait_until

from segue.cli.main import main

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]
COMMAND = (sys.executable, "-m", "examples.uneven")
# A third of the load below is half as much again as a slow worker can do.
ENV = {"WORK": "0.01", "SLOW": "6"}
RATE = ("--rate", "75")
FLAGS = ("--workers", "3", "--balance", "queue", "--rescue", "off")
SECONDS = 60.0  # for what takes the rule some ten refills


def weights(one: Instance) -> dict[int, float]:
    """By pid, of the workers that serve."""
    return {w["pid"]: w["weight"] for w in one.workers("serving")}


def test_a_slow_worker_gets_less_and_then_as_much_as_before(
    netns: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its weight falls while its queue does not empty, and nobody is lost; the weights are equal
    again when it is as fast as the others.
    """
    with Instance(tmp_path, *FLAGS, command=COMMAND, env=ENV) as one:
        one.wait_serving(1, 3)
        victim, *others = weights(one)
        with load(*RATE) as finish:
            os.kill(victim, signal.SIGUSR2)
            wait_until(lambda: weights(one)[victim] <= 0.7, "less for the slow one", SECONDS)
            found = weights(one)
            assert all(found[pid] > 1 for pid in others), found
            monkeypatch.setenv("SEGUE_DIRECTORY", one.env["SEGUE_DIRECTORY"])
            assert main(["status", "--name", "t"]) == 0
            assert " weight " in capsys.readouterr().out
            os.kill(victim, signal.SIGUSR2)
            result = finish()
        assert result.lost == 0, (result.counts, one.said())
        wait_until(lambda: set(weights(one).values()) == {1.0}, "equal weights", SECONDS)


def test_weights_go_over_to_new_code_and_begin_anew_elsewhere(netns: int, tmp_path: Path) -> None:
    """A re-exec keeps them; a supervisor that takes over finds them out again; a new generation
    begins with equal ones.
    """
    with Instance(tmp_path, *FLAGS, command=COMMAND, env=ENV) as one:
        one.wait_serving(1, 3)
        victim = next(iter(weights(one)))
        with load(*RATE) as finish:
            os.kill(victim, signal.SIGUSR2)
            wait_until(lambda: weights(one)[victim] <= 0.7, "less for the slow one", SECONDS)
            assert one.ask("reexec")["exit"] == 0
            wait_until(lambda: "goes on with 3 worker(s)" in one.said(), "the new code")
            wait_until(lambda: weights(one), "its status")
            assert weights(one)[victim] < 0.9
            one.process.kill()
            one.process.wait()
            one.again()
            wait_until(lambda: len(weights(one)) == 3, "the next supervisor")
            wait_until(lambda: weights(one)[victim] <= 0.7, "less for it once more", SECONDS)
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2, 3)
            assert set(weights(one).values()) == {1.0}
            result = finish()
        assert result.lost == 0, (result.counts, one.said())


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["start", "check"])
def test_an_object_that_does_not_count_is_refused(
    netns: int, tmp_path: Path, check: tuple[str, ...]
) -> None:
    """One that knows only its array: before any worker is started, in one sentence."""
    path = str(GOLDEN / "live.bpf.o")
    with Instance(tmp_path, "--balance", "queue", "--object", path, *check) as one:
        assert one.wait() == 1
        assert "--balance queue needs an object with the maps" in one.said()
        assert len(one.said().splitlines()) == 1


def test_what_rescue_does_not_see_is_balanced(netns: int, tmp_path: Path) -> None:
    """Requests shorter than its time, and both at work: less for the slow one, and none lost."""
    flags = ("--workers", "3", "--balance", "queue", "--rescue", "200ms")
    with Instance(tmp_path, *flags, command=COMMAND, env=ENV) as one:
        one.wait_serving(1, 3)
        victim = next(iter(weights(one)))
        with load(*RATE) as finish:
            os.kill(victim, signal.SIGUSR2)
            wait_until(lambda: weights(one)[victim] <= 0.7, "less for the slow one", SECONDS)
            result = finish()
        assert result.lost == 0, (result.counts, one.said())
