"""Kept connections whose worker crashes, or closes them: the same socket of the client goes on."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance, wait_asleep
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux import proc
from segue.observe.snapshot import Observer, Part
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

BIN = Path(sys.executable).parent
UVICORN = (str(BIN / "uvicorn"), "--fd", "{fd}", "--log-level", "warning")
LONG, SHORT = ("--timeout-keep-alive", "60"), ("--timeout-keep-alive", "2")
MARKING, PLAIN = "tests.supervisor.ending_app:marking", "tests.supervisor.ending_app:plain"
CRASH = ("--carry", "app", "--carry-crash")
HTTP = ("--carry", "http", "--idle-grace", "0.5", "--carry-crash")
WHERE = Address.parse(ADDRESS)


class Client:
    """One that keeps its connection, asks when it is told to, and never makes another."""

    def __init__(self) -> None:
        self.connection = socket.create_connection((WHERE.host, WHERE.port), timeout=PATIENCE)
        self.pid = 0

    def send(self, path: str) -> None:
        """A request."""
        self.connection.sendall(http(ADDRESS, path, keep_alive=True).request)

    def ask(self) -> None:
        """One request, and its whole answer on the same connection."""
        self.send("/")
        reader = ResponseReader()
        while not reader.complete:
            data = self.connection.recv(4096)
            assert data, "closed by the server"
            reader.feed(data)
        assert reader.status == 200
        assert reader.reusable, "told to go"
        self.pid = int(reader.field(b"x-pid"))

    def read_by(self, pid: int) -> bool:
        """The process has it, and has read all that was sent."""
        mine = self.connection.getsockname()
        with Observer() as observer:
            group = observer.snapshot(WHERE, Part.CONNECTIONS, pids=frozenset({pid}))
        found = [one for one in group.held_by(frozenset({pid})) if one.peer == mine]
        return bool(found) and not found[0].unread and found[0].received_ms < found[0].sent_ms

    def last(self) -> bytes:
        """What comes until the server has ended the connection."""
        read = b""
        with suppress(ConnectionResetError):
            while data := self.connection.recv(4096):
                read += data
        return read


@contextmanager
def clients(count: int) -> Iterator[list[Client]]:
    """Each has asked once."""
    with ExitStack() as stack:
        made = [Client() for _ in range(count)]
        for one in made:
            stack.enter_context(one.connection)
            one.ask()
        yield made


def holds(one: Instance, count: int) -> None:
    """So many duplicates are held."""
    wait_until(lambda: one.status()["held"] == count, f"{count} are held")


def prepared(one: Instance) -> None:
    """From now on connections are held.  A middleware says with its first request that it is
    there.
    """
    with clients(1):
        pass
    wait_until(lambda: "will be carried" in one.said(), "what carries is there")


def serving(directory: Path, *flags: str, command: tuple[str, ...], workers: int = 2) -> Instance:
    return Instance(directory, "--workers", str(workers), *flags, command=(*UVICORN, *command))


def kill(pid: int) -> None:
    """SIGKILL, once it has nothing to do, until its descriptors are closed."""
    wait_asleep(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: proc.start_time(pid) is None, "it has ended")


@pytest.mark.parametrize("flags", [CRASH, HTTP])
def test_a_crash_costs_no_kept_connection(
    netns: int, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Killed: the next request of each is answered by another worker, on the same connection."""
    app = MARKING if flags is CRASH else PLAIN
    with serving(tmp_path, *flags, command=(*LONG, app)) as one:
        one.wait_serving(workers=2)
        with clients(30) as made:
            for _ in range(3):
                holds(one, 30)
                victim = made[0].pid
                kill(victim)
                for client in made:
                    client.ask()
                assert victim not in {client.pid for client in made}
                one.wait_serving(workers=2)
        assert one.status()["held_ended"] == {}, one.said()
        assert one.status()["held_carried"] >= 3


def test_the_only_worker_may_crash(netns: int, tmp_path: Path) -> None:
    """Its connections wait for its successor, as new ones do."""
    with serving(tmp_path, *CRASH, command=(*LONG, MARKING), workers=1) as one:
        one.wait_serving()
        with clients(10) as made:
            holds(one, 10)
            kill(made[0].pid)
            for client in made:
                client.ask()
        assert one.status()["held_carried"] == 10


@pytest.mark.parametrize("path", ["/never", "/half"])
@pytest.mark.parametrize("flags", [CRASH, HTTP])
def test_what_is_being_answered_ends_with_its_worker(
    netns: int, tmp_path: Path, flags: tuple[str, ...], path: str
) -> None:
    """The client sees the end as without a duplicate, and what was sent before it."""
    app = MARKING if flags is CRASH else PLAIN
    with serving(tmp_path, *flags, command=(*LONG, app), workers=1) as one:
        one.wait_serving()
        with clients(2) as (busy, kept):
            holds(one, 2)
            busy.send(path)
            before, seen = busy.pid, b""
            if path == "/half":
                while not seen.endswith(b"12345"):
                    seen += busy.connection.recv(4096)
            else:
                wait_until(lambda: busy.read_by(before), "its worker has read the request")
            kill(before)
            kept.ask()
            assert not busy.last()
        assert sum(one.status()["held_ended"].values()) == 1, one.said()
        assert one.status()["held_carried"] == 1


@pytest.mark.parametrize("flags", [CRASH, HTTP])
def test_what_its_worker_closes_ends(netns: int, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A time-out, and an answer that the end of the connection belongs to."""
    app = MARKING if flags is CRASH else PLAIN
    with serving(tmp_path, *flags, command=(*SHORT, app), workers=1) as one:
        one.wait_serving()
        prepared(one)
        with clients(2) as (last, idle):
            holds(one, 2)
            last.send("/last")
            assert last.last().endswith(b"12345\r\n0\r\n\r\n")
            assert not idle.last()
        assert one.status()["held"] == 0
        assert one.status()["waiting_idle"] == 0


def test_nothing_is_held_of_a_worker_that_drains(netns: int, tmp_path: Path) -> None:
    """Its connections are carried in a restart, and its closing them tells their clients."""
    with serving(tmp_path, *CRASH, command=(*LONG, MARKING), workers=1) as one:
        one.wait_serving()
        with clients(10) as made:
            holds(one, 10)
            assert one.ask("restart")["exit"] == 0, one.said()
            one.wait_serving(2)
            holds(one, 10)
            for client in made:
                client.ask()
            assert one.ask("stop")["exit"] == 0
            for client in made:
                assert not client.last()


def test_new_code_holds_them_again(netns: int, tmp_path: Path) -> None:
    """Duplicates are let go of at the exec; nobody notices."""
    with serving(tmp_path, *CRASH, command=(*LONG, MARKING), workers=1) as one:
        one.wait_serving()
        with clients(10) as made:
            holds(one, 10)
            assert one.ask("reexec")["exit"] == 0, one.said()
            wait_until(lambda: "goes on with" in one.said(), "new code")
            holds(one, 10)
            for client in made:
                client.ask()
            kill(made[0].pid)
            for client in made:
                client.ask()


def test_a_supervisor_that_is_killed_takes_its_duplicates_along(netns: int, tmp_path: Path) -> None:
    """The workers' own connections live on; the next supervisor holds them again."""
    with serving(tmp_path, *CRASH, command=(*LONG, MARKING), workers=1) as one:
        one.wait_serving()
        with clients(10) as made:
            holds(one, 10)
            one.process.kill()
            one.process.wait()
            for client in made:
                client.ask()
            one.again()
            one.wait_serving()
            holds(one, 10)
            kill(made[0].pid)
            for client in made:
                client.ask()


def test_an_idle_connection_that_its_worker_closes_waits(netns: int, tmp_path: Path) -> None:
    """With --keep-idle: its client asks later, on the same connection, and is answered."""
    flags = ("--carry", "app", "--idle-grace", "0.5", "--keep-idle", "60")
    with serving(tmp_path, *flags, command=(*SHORT, MARKING)) as one:
        one.wait_serving(workers=2)
        prepared(one)
        with clients(30) as made:
            for round_ in (1, 2):
                wait_until(lambda: one.status()["waiting_idle"] == 30, "all wait")
                assert not any(proc_connections(one))
                for client in made:
                    client.ask()
                wait_until(lambda: one.status()["went_on"] == 30 * round_, "all went on")  # noqa: B023


def proc_connections(one: Instance) -> list[int]:
    return [worker["connections"] for worker in one.workers("serving")]


def test_it_waits_no_longer_than_it_may(netns: int, tmp_path: Path) -> None:
    """Then its client sees the end that its worker has made."""
    flags = ("--carry", "http", "--idle-grace", "0.5", "--keep-idle", "1")
    with serving(tmp_path, *flags, command=(*SHORT, PLAIN), workers=1) as one:
        one.wait_serving()
        with clients(3) as made:
            wait_until(lambda: one.status()["waiting_idle"] == 3, "all wait")
            for client in made:
                assert not client.last()
        assert one.status()["waiting_idle"] == 0


def test_a_client_that_goes_while_it_waits_is_let_go(netns: int, tmp_path: Path) -> None:
    """One descriptor less."""
    flags = ("--carry", "http", "--idle-grace", "0.5", "--keep-idle", "60")
    with serving(tmp_path, *flags, command=(*SHORT, PLAIN), workers=1) as one:
        one.wait_serving()
        with clients(3) as made:
            wait_until(lambda: one.status()["waiting_idle"] == 3, "all wait")
            made[0].connection.close()
            wait_until(lambda: one.status()["waiting_idle"] == 2, "one has gone")
            assert one.ask("stop")["exit"] == 0
            assert not made[1].last()


def test_without_the_flag_a_crash_ends_what_waits_for_its_closing(
    netns: int, tmp_path: Path
) -> None:
    """--keep-idle alone is no word for a crash."""
    flags = ("--carry", "app", "--keep-idle", "60")
    with serving(tmp_path, *flags, command=(*LONG, MARKING), workers=1) as one:
        one.wait_serving()
        with clients(3) as made:
            holds(one, 3)
            kill(made[0].pid)
            for client in made:
                assert not client.last()
