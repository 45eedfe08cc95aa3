"""What stands in the environment of a supervisor is told to nobody, and believed only so far."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance

from segue.errors import SegueError, UsageError
from segue.supervisor.run import handover

TOLD = """
import os, socket, sys
print({name: os.environ.get(name) for name in sys.argv[1:]}, flush=True)
one = socket.socket(fileno=3)
while True:
    one.accept()[0].close()
"""
OURS = {
    "SEGUE_HANDOVER": None,
    "LISTEN_PIDFDID": None,
    "WATCHDOG_PID": None,
    "WATCHDOG_USEC": None,
    "MAINPID": None,
    "SEGUE_NAME": "t",
    "SEGUE_GENERATION": "1",
    "SEGUE_WORKER_NUMBER": "1",
    "LISTEN_FDS": "1",
    "LISTEN_FDNAMES": "bind0",
}


@pytest.mark.parametrize("number", ["abc", "0", "99999", "-1", "\u00b2", "9" * 5000, " 3"])
def test_a_predecessor_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """Whatever the variable names, it is no memory of a supervisor, and it is not read."""
    monkeypatch.setenv(handover.VARIABLE, number)
    with pytest.raises(UsageError, match="unset it"):
        handover.handed_over()
    assert handover.VARIABLE not in os.environ


def test_what_a_predecessor_left_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: the variable does not go on to workers."""
    memory = os.memfd_create(handover.MEMORY)
    os.write(memory, b'{"a": 1}')
    monkeypatch.setenv(handover.VARIABLE, str(memory))
    assert handover.handed_over() == {"a": 1}
    assert handover.handed_over() is None


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"moved": NaN}', b'{"moved": 1e999}', b"[" * 99_999]
)
def test_what_cannot_be_read_of_a_predecessor_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """As what another version hands over: the workers serve on, and this code takes them over."""
    memory = os.memfd_create(handover.MEMORY)
    os.write(memory, text)
    monkeypatch.setenv(handover.VARIABLE, str(memory))
    plain = handover.handed_over()
    assert plain == {}
    with pytest.raises(SegueError, match="hands over in version None"):
        handover.Handover.from_json(plain)


def test_a_worker_is_told_of_its_own_instance(netns: int, tmp_path: Path) -> None:
    """Not of another, nor of the listeners and the manager of its supervisor."""
    python = ("/usr/bin/env", "python3", "-S", "-E", "-c", TOLD)
    env = {"LISTEN_PIDFDID": "5", "WATCHDOG_PID": "7", "WATCHDOG_USEC": "100", "MAINPID": "4",
           "SEGUE_NAME": "evil", "SEGUE_GENERATION": "77", "SEGUE_WORKER": "/bad",
           "SEGUE_WORKER_NUMBER": "x",
           "LISTEN_FDS": "3", "LISTEN_PID": "1", "LISTEN_FDNAMES": "q",
           "NOTIFY_SOCKET": "/run/none"}  # fmt: skip
    names = (*OURS, "SEGUE_WORKER", "NOTIFY_SOCKET")
    with Instance(tmp_path, command=(*python, *names), env=env) as one:
        one.wait_serving()
        wanted = {
            **OURS,
            "SEGUE_WORKER": f"{tmp_path}/run/t.w1",
            "NOTIFY_SOCKET": f"{tmp_path}/run/t.notify",
        }
        assert str(wanted) in one.said()
