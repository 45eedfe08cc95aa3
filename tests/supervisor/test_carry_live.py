"""Kept connections over restarts: the same socket of the client, answered by the next workers."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.security.test_rights_live import PYTHON, place
from tests.supervisor.instance import ADDRESS, Instance
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux import sysctl
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

__all__ = ["place"]  # a fixture

BIN = Path(sys.executable).parent
QUIET = ("--log-level", "warning")
UVICORN = (str(BIN / "uvicorn"), "--fd", "{fd}", *QUIET, "--timeout-keep-alive", "60")
GTHREAD = (
    str(BIN / "gunicorn"), "--bind", "fd://{fd}", "--no-control-socket", *QUIET, "--threads", "8",
    "--keep-alive", "60",
)  # fmt: skip
ASGI, WSGI = "examples.draining:app", "examples.draining:wsgi"
SERVERS = {"uvicorn": (*UVICORN, ASGI), "gunicorn": (*GTHREAD, WSGI)}
WHERE = Address.parse(ADDRESS)


@dataclass
class Client:
    """One that keeps its connection, and never makes another."""

    pauses: random.Random
    path: str = "/"
    longest: float = 0.4  # seconds that it thinks
    connection: socket.socket = field(init=False)
    answers: int = 0
    pids: list[str] = field(default_factory=list)
    failed: str = ""

    def __post_init__(self) -> None:
        self.connection = socket.create_connection((WHERE.host, WHERE.port), timeout=PATIENCE)

    def ask(self) -> None:
        """One request, and its whole answer on the same connection."""
        self.send()
        self.receive()

    def send(self) -> None:
        """A request."""
        self.connection.sendall(http(ADDRESS, self.path, keep_alive=True).request)

    def receive(self) -> None:
        """The whole answer to it."""
        reader = ResponseReader()
        while not reader.complete:
            data = self.connection.recv(4096)
            assert data, "closed by the server"
            reader.feed(data)
        assert reader.status == 200
        assert reader.reusable, "told to go"
        pid = reader.field(b"x-pid").decode()
        self.answers += 1
        if self.pids[-1:] != [pid]:
            self.pids.append(pid)

    def run(self, over: threading.Event) -> None:
        """Ask, and pause as a person or a balancer does."""
        try:
            while not over.wait(self.pauses.random() * self.longest):
                self.ask()
        except (AssertionError, OSError) as error:
            self.failed = f"{type(error).__name__}: {error} after {self.answers}, {self.pids}"


@contextmanager
def kept(count: int, path: str = "/", longest: float = 0.4) -> Iterator[list[Client]]:
    """So many clients at work, until the end of the block."""
    over = threading.Event()
    clients = [Client(random.Random(number), path, longest) for number in range(count)]
    threads = [threading.Thread(target=one.run, args=(over,)) for one in clients]
    for one in threads:
        one.start()
    try:
        yield clients
    finally:
        over.set()
        for one in threads:
            one.join()
        for client in clients:
            client.connection.close()


def answered_again(clients: list[Client]) -> None:
    """Each, or it has failed."""
    before = [client.answers for client in clients]
    for client, count in zip(clients, before, strict=True):
        wait_until(lambda: client.failed or client.answers > count + 1, "an answer")  # noqa: B023


def prepared(one: Instance) -> None:
    """The supervisor has seen the middleware."""
    wait_until(lambda: "will be carried" in one.said(), "the middleware is seen")


@pytest.mark.parametrize("server", SERVERS)
def test_no_client_notices_five_restarts(netns: int, tmp_path: Path, server: str) -> None:
    """Not one connection is closed, or told to go; each is answered by every generation."""
    with Instance(tmp_path, "--carry", "app", command=SERVERS[server]) as one:
        one.wait_serving()
        with kept(30) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            prepared(one)
            for generation in range(2, 7):
                assert one.ask("restart")["exit"] == 0, one.said()
                one.wait_serving(generation)
                answered_again(clients)
        assert not [client.failed for client in clients if client.failed], one.said()
        assert all(len(client.pids) == 6 for client in clients), [c.pids for c in clients]


def test_connections_that_only_look_kept_are_carried(netns: int, tmp_path: Path) -> None:
    """By what the kernel saw, without a word of the application."""
    command = (*UVICORN, "examples.hello:app")
    flags = ("--carry", "http", "--idle-grace", "0.1")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        with kept(20) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            for generation in (2, 3, 4):
                assert one.ask("restart")["exit"] == 0, one.said()
                one.wait_serving(generation)
                answered_again(clients)
        assert not [client.failed for client in clients if client.failed], one.said()
        assert all(len(client.pids) == 4 for client in clients), [c.pids for c in clients]
        assert one.status()["carried"] == 60
        assert one.status()["carry"] == "http"


def test_clients_that_never_pause_are_carried(netns: int, tmp_path: Path) -> None:
    """Where their answers are seen to be whole, no pause is needed to tell that."""
    command = (*UVICORN, "examples.hello:app")
    flags = ("--carry", "http", "--idle-grace", "5")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        with kept(4, longest=0.0) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            for generation in (2, 3):
                assert one.ask("restart")["exit"] == 0, one.said()
                one.wait_serving(generation)
                answered_again(clients)
        assert not [client.failed for client in clients if client.failed], one.said()
        assert all(len(client.pids) == 3 for client in clients), [c.pids for c in clients]
        assert one.status()["carried"] == 8


def test_workers_of_another_user_are_carried_from(place: Path, netns: int) -> None:
    """Their filters are locked, and so their listeners have ours before."""
    command = (PYTHON, "-S", "-E", str(Path(__file__).parent / "keeping_server.py"))
    os.rmdir(place / "run")
    with Instance(place, "--carry", "app", "--user", "nobody", command=command) as one:
        one.wait_serving()
        with kept(10) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            assert one.ask("restart")["exit"] == 0, one.said()
            one.wait_serving(2)
            answered_again(clients)
        assert not [client.failed for client in clients if client.failed], one.said()
        assert one.status()["carried"] == 10


def test_without_the_right_it_is_refused_or_left(netns: int, tmp_path: Path) -> None:
    """What was asked for is refused before anything is started; else the status says why."""
    sysctl.write("net.ipv4.tcp_syncookies", "0")
    with Instance(tmp_path, "--carry", "app") as one:
        assert one.wait() == 1
        assert "--carry app needs" in one.said()
        assert "net.ipv4.tcp_syncookies is 0" in one.said()
        assert "is starting" not in one.said()


def test_an_application_without_the_middleware_is_drained_as_ever(
    netns: int, tmp_path: Path
) -> None:
    """And the status says so."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        found = one.status()
    assert (found["carry"], found["carried"]) == ("off", 0)
    assert found["carry_reason"] == "no worker's application has the middleware"


@pytest.mark.parametrize("way", ["reexec", "kill"])
def test_a_next_supervisor_goes_on(netns: int, tmp_path: Path, way: str) -> None:
    """New code, or another process after kill -9: it carries what its workers keep."""
    with Instance(tmp_path, "--carry", "app", command=SERVERS["uvicorn"]) as one:
        one.wait_serving()
        with kept(10) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            prepared(one)
            assert one.ask("restart")["exit"] == 0, one.said()
            one.wait_serving(2)
            if way == "reexec":
                assert one.ask("reexec")["exit"] == 0, one.said()
            else:
                one.process.kill()
                one.process.wait()
                one.again()
                one.wait_serving(2)
            wait_until(lambda: one.said().count("will be carried") == 2, "the middleware is seen")
            assert one.ask("restart")["exit"] == 0, one.said()
            one.wait_serving(3)
            answered_again(clients)
            # What was carried before is counted on, where somebody could tell.
            assert one.status()["carried"] == (20 if way == "reexec" else 10)
        assert not [client.failed for client in clients if client.failed], one.said()


def test_a_worker_that_has_served_nothing_yet(netns: int, tmp_path: Path) -> None:
    """Its application has the middleware all the same, and its clients have connected."""
    with Instance(tmp_path, "--carry", "app", command=SERVERS["uvicorn"]) as one:
        one.wait_serving()
        clients = [Client(random.Random(0)) for _ in range(5)]
        assert one.ask("restart")["exit"] == 0, one.said()
        one.wait_serving(2)
        for client in clients:
            client.ask()
            client.connection.close()
        assert one.status()["carried"] == 5


@pytest.mark.parametrize(("rule", "app"), [("app", "app"), ("http", "pausing")])
def test_an_answer_that_pauses_for_longer_than_the_grace(
    netns: int, tmp_path: Path, rule: str, app: str
) -> None:
    """Its worker is not told to stop: it would close the connection without a word of that."""
    command = (*UVICORN, f"tests.supervisor.pausing_app:{app}")
    flags = ("--carry", rule, "--idle-grace", "0.05")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        client, reader = Client(random.Random(0)), ResponseReader()
        length = (("Content-Length", "1"),)
        head = http(ADDRESS, "/", method="POST", keep_alive=True, fields=length).request
        client.connection.sendall(head)
        reader.feed(client.connection.recv(4096))
        assert one.ask("restart", until="serving")["exit"] == 0, one.said()
        before = one.workers("draining")[0]["pid"]
        with kept(1, "/?0.01") as others:
            wait_until(lambda: others[0].answers > 3, "more is answered")
            assert [one["pid"] for one in one.workers("draining")] == [before], one.said()
            client.connection.sendall(b"x")
            while not reader.complete:
                reader.feed(client.connection.recv(4096))
            one.wait_serving(2)
        client.ask()
        client.connection.close()
        assert not others[0].failed
        assert client.pids != [str(before)]


def test_an_answer_that_pauses_is_whole(netns: int, tmp_path: Path) -> None:
    """Between any two of its pieces it looks finished to the kernel."""
    command = (*UVICORN, "tests.supervisor.pausing_app:app")
    with Instance(tmp_path, "--carry", "app", command=command) as one:
        one.wait_serving()
        with kept(20, "/?0.1") as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            prepared(one)
            for generation in (2, 3, 4):
                assert one.ask("restart")["exit"] == 0, one.said()
                one.wait_serving(generation)
                answered_again(clients)
        broken = [one.failed for one in clients if one.failed and "told to go" not in one.failed]
        assert not broken, one.said()
        assert one.status()["carried"] > 20
