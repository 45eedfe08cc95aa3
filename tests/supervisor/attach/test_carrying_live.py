"""Kept connections of servers that Segue did not start, carried when their listeners are over."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import HERE, Attach, Servers, servers
from tests.supervisor.instance import ROOT
from tests.supervisor.test_carry_live import Client, answered_again, kept
from tests.waiting import wait_until

from segue.linux import socket_filter, sysctl
from segue.linux.sockopt import open_listener

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.program("mount")]

SERVER = (
    *(sys.executable, "-S", "-E", str(ROOT / "tests" / "supervisor" / "keeping_server.py")),
    *(HERE.host, str(HERE.port)),
)
FLAGS = ("--carry", "http", "--idle-grace", "0.05", "--together", "0")


@pytest.fixture
def pool(netns: int) -> Iterator[Servers]:
    """Servers in this test's namespace."""
    with servers() as made:
        yield made


def answered(clients: list[Client]) -> None:
    """Each has been, at least once."""
    wait_until(lambda: all(one.answers or one.failed for one in clients), "all are answered")


def succeeded(
    pool: Servers,
    one: Attach,
    clients: list[Client],
    old: subprocess.Popen[bytes],
    new: subprocess.Popen[bytes],
) -> None:
    """What the old one keeps has gone to the new one; then the old one may be stopped."""
    wait_until(lambda: one.status().get("carried") == len(clients), "all are carried")
    answered_again(clients)
    pool.stop(old)
    answered_again(clients)
    assert not [client.failed for client in clients if client.failed], one.said()
    assert all(client.pids == [str(old.pid), str(new.pid)] for client in clients)


def test_a_new_version_beside_the_old_one(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """What the old one keeps goes to it when it accepts."""
    old = pool.start(*SERVER)
    with Attach(tmp_path, bpf_directory, *FLAGS) as one:
        one.wait_attached(1)
        with kept(10) as clients:
            answered(clients)
            succeeded(pool, one, clients, old, pool.start(*SERVER))
        assert one.status()["carry"] == "http"
        assert f"(pid {old.pid}): 10 carried to others" in one.said()


@pytest.mark.parametrize("ready", ["accept", "listen"])
def test_a_new_version_whose_parent_opened_its_listener(
    pool: Servers, tmp_path: Path, bpf_directory: str, ready: str
) -> None:
    """The parent is older than the old version; what accepts is the new one all the same."""
    old = pool.start(*SERVER)
    with Attach(tmp_path, bpf_directory, *FLAGS, "--ready", ready) as one:
        one.wait_attached(1)
        with kept(10) as clients:
            answered(clients)
            with open_listener(HERE, backlog=8) as opened:
                wait_until(lambda: len(one.status()["workers"]) == 2, "it is seen")
                number = opened.fileno()
                third = ("bash", "-c", f'exec 3<&{number}; exec "$@"', "bash")
                new = pool.start(*third, *SERVER[:-2], listeners=0, inherits=(number,))
            succeeded(pool, one, clients, old, new)


def test_a_listener_that_has_closed_while_its_process_goes_on(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Its siblings take over what it keeps; their own connections stay where they are."""
    one, other = pool.start(*SERVER), pool.start(*SERVER)
    with Attach(tmp_path, bpf_directory, *FLAGS, "--generation-by", "none") as here:
        here.wait_attached(2)
        with kept(20) as clients:
            answered(clients)
            mine = sum(client.pids[-1] == str(one.pid) for client in clients)
            assert 0 < mine < 20
            one.send_signal(signal.SIGUSR1)
            wait_until(lambda: here.status().get("carried") == mine, "all are carried")
            pool.stop(one)
            answered_again(clients)
        assert not [client.failed for client in clients if client.failed], here.said()
        assert {client.pids[-1] for client in clients} == {str(other.pid)}


def test_a_process_with_another_listener_keeps_its_own(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """It may be about to serve on by that one, as after a reload in place."""
    with open_listener(HERE, backlog=8) as first, open_listener(HERE, backlog=8) as second:
        with Attach(tmp_path, bpf_directory, *FLAGS, "--ready", "listen") as one:
            one.wait_attached(2)
            pool.start(*SERVER)
            wait_until(lambda: one.said().count("accepts from another listener") == 0, "nothing")
            first.close()
            wait_until(lambda: "accepts from another listener here, too" in one.said(), "it stays")
        assert not socket_filter.present(second)


def test_listeners_are_watched_and_left_as_they_were(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A filter of the server's own stays."""
    with open_listener(HERE, backlog=8) as plain, Attach(tmp_path, bpf_directory, *FLAGS) as one:
        one.wait_attached(1)
        wait_until(lambda: socket_filter.present(plain), "it is watched")
        assert one.ask("detach")["exit"] == 0
        assert one.wait() == 0
        assert not socket_filter.present(plain)


def test_where_nothing_can_be_carried_it_is_refused(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """With the reason, and before anything is attached."""
    sysctl.write("net.ipv4.tcp_syncookies", "0")
    with open_listener(HERE, backlog=8) as listener:
        with Attach(tmp_path, bpf_directory, *FLAGS) as one:
            assert one.wait() == 1
            assert "--carry http needs" in one.said()
            assert "net.ipv4.tcp_syncookies is 0" in one.said()
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
