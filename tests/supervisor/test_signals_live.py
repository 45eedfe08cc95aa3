"""Signals to the supervisor that are not its own business alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance, load
from tests.waiting import wait_until

from segue.supervisor.loop import handled

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# Serves, and writes a line into the file that it is given whenever USR1 comes.
HANDLES = """
import signal, socket, sys
def note(*_):
    with open(sys.argv[1], "a") as file:
        file.write("USR1\\n")
signal.signal(signal.SIGUSR1, note)
listener = socket.socket(fileno=3)
while True:
    listener.accept()[0].close()
"""


def test_usr1_ends_no_worker_without_a_handler(netns: int, tmp_path: Path) -> None:
    """The workers serve on, no request is lost, and it is said once, not for each signal."""
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for _ in range(3):
                one.process.send_signal(signal.SIGUSR1)
                one.status()
            wait_until(lambda: "have no handler for USR1" in one.said(), "the sentence")
            assert finish().lost == 0
        one.wait_serving(1, 2)
        assert one.said().count("no handler") == 1


@pytest.mark.parametrize("shell", [False, True])
def test_usr1_reaches_a_server_that_has_a_handler(
    netns: int, tmp_path: Path, *, shell: bool
) -> None:
    """The worker itself, or the server that a shell runs for it."""
    told = tmp_path / "told"
    command: tuple[str, ...] = (SERVER[0], "-S", "-E", "-c", HANDLES, str(told))
    if shell:
        command = ("sh", "-c", '"$@"; exit $?', "sh", *command)
    with Instance(tmp_path, command=command) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGUSR1)
        wait_until(told.exists, "the server's handler")
        one.wait_serving()
        assert "no handler" not in one.said()


def test_signals_that_were_ignored_at_the_start_stay_ignored(netns: int, tmp_path: Path) -> None:
    """As under nohup: HUP starts no generation, and TERM stops it all the same."""
    nohup = ("sh", "-c", 'trap "" HUP TERM; exec "$@"', "sh")
    with Instance(tmp_path, before=nohup) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGHUP)
        one.process.send_signal(signal.SIGUSR1)  # which is handled after it
        wait_until(lambda: "no handler for USR1" in one.said(), "the signals")
        assert "generation 2" not in one.said()
        assert "HUP was ignored" in one.said()
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_job_of_a_script_is_ended_by_int_and_quit(
    netns: int, tmp_path: Path, number: signal.Signals
) -> None:
    """A shell without job control ignores both for what it starts with &."""
    script = ("sh", "-c", '"$@" & echo $! >"$0.pid"; wait', str(tmp_path / "job"))
    with Instance(tmp_path, before=script) as one:
        one.wait_serving()
        os.kill(one.status()["pid"], number)
        one.wait()
        wait_until(lambda: not one.status(), "its end")


def test_which_handlers_are_installed() -> None:
    """All but those of ignored signals; the three that end us, and CHLD, always."""
    always = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)
    numbers = (signal.SIGHUP, signal.SIGUSR1, *always)
    handlers: dict[int, Callable[[int], object]] = dict.fromkeys(numbers, print)
    assert set(handled(handlers, ())) == set(handlers)
    assert set(handled(handlers, handlers)) == set(always)
    assert signal.SIGUSR1 in handled(handlers, {signal.SIGHUP})
