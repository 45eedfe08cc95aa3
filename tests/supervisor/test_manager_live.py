"""What a service manager hears of a real instance: systemd with Type=notify-reload."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def heard(manager: socket.socket) -> dict[str, str]:
    """The next message."""
    assert select.select([manager], [], [], PATIENCE)[0], "no message came"
    lines = manager.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def until(manager: socket.socket, key: str) -> dict[str, str]:
    """The next message that has this key."""
    while key not in (message := heard(manager)):
        pass
    return message


def test_a_manager_hears_when_the_instance_serves(netns: int, tmp_path: Path) -> None:
    """At the start, after each reload, at a stop; and of a supervisor that took over for it.

    Without the last one systemd would end the new supervisor after TimeoutStartSec.
    """
    path = tmp_path / "manager"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        with Instance(tmp_path, env={"NOTIFY_SOCKET": str(path)}) as one:
            first = until(manager, "READY")
            assert first["STATUS"] == "generation 1 serves"
            assert first["MAINPID"] == str(one.process.pid)
            assert one.ask("restart", wait=False)["exit"] == 0
            assert int(until(manager, "RELOADING")["MONOTONIC_USEC"]) > 0
            assert until(manager, "READY")["STATUS"] == "generation 2 serves"
            one.wait_serving(2)
            one.process.kill()
            one.process.wait()
            one.again()
            again = until(manager, "READY")
            assert again["STATUS"] == "generation 2 serves"
            assert again["MAINPID"] == str(one.process.pid)
            assert one.ask("stop")["exit"] == 0
            assert "STOPPING" in until(manager, "STOPPING")
            assert one.wait() == 0
