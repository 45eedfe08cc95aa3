"""Where carried connections go, by a policy in Python and by the program of an object."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.bpf.objects import GOLDEN
from tests.supervisor.instance import Instance
from tests.supervisor.test_carry_live import Client, answered_again, kept
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

SERVER = (sys.executable, "-S", "-E", str(Path(__file__).parent / "keeping_server.py"))
FLAGS = ("--carry", "http", "--idle-grace", "0.1", "--workers", "2")
CLIENTS = 12
TO_ONE = """
from segue import policy


@policy
def to_one(conn, group):
    return group.table.select(7)
"""


def carried(one: Instance, clients: list[Client]) -> None:
    """One restart that carries them all."""
    wait_until(lambda: all(client.answers for client in clients), "all are answered")
    assert one.ask("restart")["exit"] == 0, one.said()
    one.wait_serving(2, 2)
    answered_again(clients)
    assert not [client.failed for client in clients if client.failed], one.said()
    assert one.status()["carried"] == CLIENTS, one.said()


def test_a_policy_chooses_for_what_is_carried(netns: int, tmp_path: Path) -> None:
    """This one has everything at the same worker, where the table would have it at both."""
    file = tmp_path / "my.py"
    file.write_text(TO_ONE)
    with Instance(tmp_path, *FLAGS, "--policy", f"{file}:to_one", command=SERVER) as one:
        one.wait_serving(1, 2)
        with kept(CLIENTS) as clients:
            carried(one, clients)
        assert len({client.pids[-1] for client in clients}) == 1
        assert all(len(client.pids) == 2 for client in clients)


def test_the_program_of_an_object_chooses(netns: int, tmp_path: Path) -> None:
    """By an array of its own; it counts what it has selected."""
    path = str(GOLDEN / "live.bpf.o")
    with Instance(tmp_path, *FLAGS, "--object", path, command=SERVER) as one:
        one.wait_serving(1, 2)
        with kept(CLIENTS) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            before = one.status()["fronts"][0]["variables"]["selected"]
            carried(one, clients)
        assert one.status()["fronts"][0]["variables"]["selected"] >= before + CLIENTS
        assert all(len(client.pids) == 2 for client in clients)
