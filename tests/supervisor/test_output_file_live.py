"""A log that is rotated under a running instance."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


@pytest.mark.parametrize("by", ["USR1", "HUP", "reexec"])
def test_after_a_rotation_lines_go_into_the_new_file(netns: int, tmp_path: Path, by: str) -> None:
    """Those of the supervisor and of workers that run already."""
    log, told = tmp_path / "web.log", tmp_path / "told"
    script = f"while [ ! -e {told} ]; do sleep 0.02; done; echo from a worker; sleep 60"
    command = ("sh", "-c", f"({script}) & exec " + " ".join(f"'{word}'" for word in SERVER))
    with Instance(tmp_path, "--output-file", str(log), command=command) as one:
        one.wait_serving()
        assert log.stat().st_mode & 0o777 == 0o640
        old = log.rename(tmp_path / "web.log.1")
        if by == "reexec":
            assert one.ask("reexec")["exit"] == 0
        else:
            one.process.send_signal(signal.Signals[f"SIG{by}"])
        wait_until(log.exists, "the new file")
        told.touch()
        wait_until(lambda: " | from a worker" in log.read_text(), "the worker's line")
        before = old.read_text()
        if by != "HUP":  # which says enough
            one.ask("scale", workers=2)
        wait_until(lambda: "+00:00 segue: " in log.read_text(), "a line of its own")
        assert old.read_text() == before
        assert "takes all new connections" in before


def test_a_file_that_cannot_be_opened_keeps_the_old_one(netns: int, tmp_path: Path) -> None:
    """It is said there, and at the next signal the new one is opened."""
    log = tmp_path / "web.log"
    with Instance(tmp_path, "--output-file", str(log)) as one:
        one.wait_serving()
        old = log.rename(tmp_path / "web.log.1")
        log.mkdir()
        one.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "Is a directory" in old.read_text(), "the sentence")
        log.rmdir()
        one.process.send_signal(signal.SIGUSR1)
        wait_until(log.is_file, "the new file")
        one.wait_serving()


def test_a_fifo_is_refused_in_one_sentence(netns: int, tmp_path: Path) -> None:
    """Whether or not somebody reads it; nothing is said to go there before."""
    log = tmp_path / "web.log"
    os.mkfifo(log)
    with Instance(tmp_path, "--output-file", str(log)) as one:
        assert one.wait() == 2
        assert f"{log} is not written to: it is no regular file" in one.said()
        assert one.said().count(str(log)) == 1


def test_at_the_start_it_is_an_error(netns: int, tmp_path: Path) -> None:
    """No worker is started, and whoever started this sees why."""
    log = tmp_path / "web.log"
    log.symlink_to(tmp_path / "other")
    with Instance(tmp_path, "--output-file", str(log)) as one:
        assert one.wait() == 2
        assert "it is a link" in one.said()
        assert not (tmp_path / "other").exists()
