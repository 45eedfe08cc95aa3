"""Clients until their request is whole: heard, turned away, and never waited for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.rounds import Rounds
from tests.waiting import PATIENCE

from segue.errors import UsageError
from segue.supervisor.control.clients import Clients
from segue.supervisor.control.requests import Promote, Request, Rollback
from segue.supervisor.control.server import Client, Control
from segue.supervisor.loop import Loop


class Desk:
    """Clients of one socket, their clock, and what was asked."""

    def __init__(self, path: str) -> None:
        self.path, self.clock = path, 0.0
        self.said: list[str] = []
        self.heard: list[str] = []
        self.loop = Loop(self.said.append, lambda: self.clock)
        self.clients = Clients(self.loop, self.do)
        self.clients.open(Control(path))

    def do(self, client: Client, request: Request) -> None:
        self.heard.append(request.verb)
        if isinstance(request, Promote):
            raise UsageError("no such order")
        if isinstance(request, Rollback):
            raise KeyError("a bug")
        client.end(0, did=request.verb)

    def turn(self) -> None:
        """Everything that waits to be heard: a connection, its request, and what follows."""
        self.loop.run(Rounds(4))

    def client(self, said: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        client.sendall(said)
        self.turn()
        return client


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(str(tmp_path / "sock"))
    yield made
    made.clients.close()
    made.loop.close()


def answer(client: socket.socket) -> dict[str, Any]:
    """Its last answer."""
    with client, client.makefile() as lines:
        found: dict[str, Any] = json.loads(lines.readlines()[-1])
        return found


def test_a_request_is_carried_out_once_it_is_whole(desk: Desk) -> None:
    """Also when it comes in two pieces; an error is the answer, with its exit code."""
    assert answer(desk.client(b'{"do": "status"}\n')) == {"exit": 0, "did": "status"}
    client = desk.client(b'{"do": ')
    client.sendall(b'"reexec"}\n')
    desk.turn()
    assert answer(client)["did"] == "reexec"
    assert answer(desk.client(b'{"do": "promote"}\n')) == {"exit": 2, "error": "no such order"}
    assert answer(desk.client(b"garbage\n"))["exit"] == 2


def test_who_takes_too_long_is_turned_away(desk: Desk) -> None:
    """After five seconds, and not before."""
    client = desk.client(b"{")
    desk.clock = 4.9
    desk.clients.hurry()
    desk.clock = 5.0
    desk.clients.hurry()
    assert "no whole request" in answer(client)["error"]


def test_a_request_of_a_client_that_has_gone_is_not_carried_out(desk: Desk) -> None:
    """It gave up while the supervisor was busy; who only writes no more is still answered."""
    with socket.socket(socket.AF_UNIX) as gone, socket.socket(socket.AF_UNIX) as half:
        for client, verb in ((gone, b"restart"), (half, b"status")):
            client.connect(desk.path)
            client.sendall(b'{"do": "%s"}\n' % verb)
        half.shutdown(socket.SHUT_WR)
        gone.close()
        desk.turn()
    assert desk.heard == ["status"]


def test_clients_without_a_whole_request_are_turned_away_with_the_reason(desk: Desk) -> None:
    """None of them is left without an answer."""
    clients = [desk.client(), desk.client(b'{"do": ')]
    desk.clients.turn_away("not now")
    assert [answer(one) for one in clients] == [{"exit": 1, "error": "not now"}] * 2


def test_a_crowd_is_turned_away(desk: Desk) -> None:
    """Of more than thirty-two that say nothing the first must go: whoever asks is answered."""
    waiting = [desk.client() for _ in range(33)]
    assert "sent no request" in answer(waiting.pop(0))["error"]
    assert answer(desk.client(b'{"do": "status"}\n'))["did"] == "status"
    assert "sent no request" in answer(waiting.pop(0))["error"]
    waiting[-1].sendall(b'{"do": "status"}\n')
    desk.turn()
    assert answer(waiting.pop())["did"] == "status"
    for one in waiting:
        one.close()


def test_a_shut_door_is_no_end_for_those_inside(desk: Desk) -> None:
    """Whoever is connected is heard; nobody else comes in."""
    client = desk.client()
    desk.clients.shut()
    desk.clients.shut()
    client.sendall(b'{"do": "status"}\n')
    desk.turn()
    assert answer(client)["did"] == "status"
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(FileNotFoundError):
        late.connect(desk.path)


SENSELESS = {
    "deep arrays": b"[" * 60_000 + b"\n",
    "deep objects": b'{"a":' * 12_000 + b"\n",
    "too many digits": b'{"do": ' + b"9" * 5000 + b"}\n",
    "half a character": b'{"do": "\xff"}\n',
    "no verb": b'{"do": [1]}\n',
    "nothing": b"\n",
}


@pytest.mark.parametrize("said", SENSELESS.values(), ids=SENSELESS)
def test_a_request_that_makes_no_sense_is_an_error_of_who_asks(desk: Desk, said: bytes) -> None:
    """However it is built: the answer has exit code 2, and the next client is served."""
    assert answer(desk.client(said))["exit"] == 2
    assert answer(desk.client(b'{"do": "status"}\n'))["did"] == "status"
    assert desk.said == []


def test_a_bug_in_an_order_ends_one_request(desk: Desk) -> None:
    """Its client has exit code 1, the log has a sentence, and the next client is served."""
    told = answer(desk.client(b'{"do": "rollback"}\n'))
    assert (told["exit"], "KeyError" in told["error"]) == (1, True)
    assert desk.said == [told["error"]]
    assert answer(desk.client(b'{"do": "status"}\n'))["did"] == "status"
