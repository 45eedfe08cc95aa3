"""What the service manager is told is one line a value, whoever chose the words."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from segue.supervisor import notify


def test_a_value_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newline in a worker's last words gives systemd no other main process."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        assert notify.tell(STATUS="failed\nMAINPID=1\x1b", READY="1")
        assert manager.recv(4096) == b"STATUS=failed\\x0aMAINPID=1\\x1b\nREADY=1"
