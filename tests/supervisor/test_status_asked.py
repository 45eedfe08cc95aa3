"""What a client of the control socket asks, by what answered it before."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.test_status import STATUS

from segue.errors import SegueError
from segue.supervisor.control import client
from segue.supervisor.control.instances import Running
from segue.supervisor.control.status import Reader


def answered(
    path: Path,
    requests: int,
    answer: Callable[[dict[str, Any]], dict[str, Any]],
    act: Callable[[Running], None],
) -> list[dict[str, Any]]:
    """What so many clients asked while this was done."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for _ in range(requests):
                with listening.accept()[0] as connection:
                    asked.append(json.loads(connection.recv(4096)))
                    connection.sendall(json.dumps(answer(asked[-1])).encode() + b"\n")

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        act(Running("", str(path), None))
        server.join()
    return asked


def test_who_looks_often_asks_for_what_has_no_default(tmp_path: Path) -> None:
    """And another one for everything."""

    def act(to: Running) -> None:
        assert client.status(to, Reader()) == client.status(to) == STATUS

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return {"exit": 0, "status": STATUS.to_json(brief=asked.get("brief", False))}

    asked = answered(tmp_path / "t.sock", 2, answer, act)
    assert asked == [{"do": "status", "brief": True}, {"do": "status"}]


def test_a_supervisor_of_an_earlier_version_is_asked_for_everything(tmp_path: Path) -> None:
    """It refuses what it does not know; it is tried once."""
    reader = Reader()

    def act(to: Running) -> None:
        assert client.status(to, reader) == client.status(to, reader) == STATUS

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if "brief" in asked:
            return {"exit": 2, "error": "status has no 'brief'"}
        return {"exit": 0, "status": STATUS.to_json()}

    asked = answered(tmp_path / "t.sock", 3, answer, act)
    assert asked == [{"do": "status", "brief": True}, {"do": "status"}, {"do": "status"}]


def test_a_refusal_is_raised(tmp_path: Path) -> None:
    """With the supervisor's sentence, also where it was asked a second time."""

    def act(to: Running) -> None:
        with pytest.raises(SegueError, match="no room"):
            client.status(to, Reader())

    answered(tmp_path / "t.sock", 2, lambda _: {"exit": 1, "error": "no room"}, act)


def test_what_a_status_says_is_visible(tmp_path: Path) -> None:
    """Whoever answers may have written escapes."""

    def act(to: Running) -> None:
        assert client.status(to).name == "\\x1b[2J"

    answered(
        tmp_path / "t.sock",
        1,
        lambda _: {"exit": 0, "status": {**STATUS.to_json(), "name": "\x1b[2J"}},
        act,
    )
