"""Listeners that a service manager hands over: taken, kept for it, or refused with the remedy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance, load, wait_for_load
from tests.waiting import PATIENCE, wait_until

from segue.linux import sysctl
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import is_listening

pytestmark = pytest.mark.root

# The manager is the test.  This takes its descriptors, as a fork would, and becomes the service.
LAUNCH = """
import os, sys
from segue.linux import pidfd
manager, numbers, names, *argv = sys.argv[1:]
taken = [pidfd.duplicate_socket(int(manager), int(one)) for one in numbers.split(",")]
for at, one in enumerate(taken):
    os.dup2(one.fileno(), 100 + at)
for at in range(len(taken)):
    os.dup2(100 + at, 3 + at)
    os.close(100 + at)
os.environ.setdefault("LISTEN_FDS", str(len(taken)))
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execvp(argv[0], argv)
"""


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """What the unit opens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(300)
        yield made


def handed(*sockets: socket.socket, names: str = "web:other") -> tuple[str, ...]:
    """The beginning of a command that gets these."""
    numbers = ",".join(str(one.fileno()) for one in sockets)
    return (sys.executable, "-c", LAUNCH, str(os.getpid()), numbers, names)


@contextlib.contextmanager
def asking(host: str = "127.0.0.1", port: int = 8080) -> Iterator[socket.socket]:
    """A client that has sent its request."""
    with socket.create_connection((host, port), timeout=PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        yield client


def answered(client: socket.socket) -> bool:
    """It has an answer in the end."""
    return b"200" in client.recv(4096)


def took_over(one: Instance) -> bool:
    """It has taken workers over, and has not ended."""
    assert one.process.poll() is None, one.said()
    return "took over" in one.said()


@pytest.mark.parametrize("engine", ["migrate", "hash", "drain"])
def test_nobody_is_lost_over_starts_restarts_and_stops(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """While nothing runs clients wait, and whoever starts next takes them."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    flags = ("--bind", ADDRESS, "--workers", "2", "--engine", engine)
    with listening("127.0.0.1", 8080) as manager, asking() as early:
        with Instance(tmp_path, *flags, before=handed(manager)) as one:
            one.wait_serving(workers=2)
            assert answered(early)
            assert f"{ADDRESS} is handed over by the service manager" in one.said()
            assert one.status()["fronts"][0]["strangers"] == []
            with load("--rate", "60") as finish:
                wait_for_load(10)
                assert one.ask("restart")["exit"] == 0
                one.wait_serving(2, workers=2)
                assert one.ask("reexec")["exit"] == 0
                assert one.ask("restart")["exit"] == 0
                one.wait_serving(3, workers=2)
                wait_for_load(10)
                result = finish()
            assert result.lost == 0, (result.counts, result.examples, one.said())
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
            assert is_listening(manager)
            with asking() as late:
                info = info_of(manager)
                assert info is not None
                assert (info.unacked, info.sacked) == (1, 300)
                one.again()
                one.wait_serving(workers=2)
                assert answered(late)
            one.process.send_signal(signal.SIGKILL)
            one.wait()
            one.again()
            wait_until(lambda: took_over(one), "it takes over")
            one.wait_serving(workers=2)
            assert one.ask("restart")["exit"] == 0
            with asking() as later:
                assert answered(later)
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
        assert is_listening(manager)


@pytest.mark.parametrize("engine", ["migrate", "hash"])
def test_the_death_of_everything_loses_no_connection_that_waits(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """Where they migrate, they move to the manager's listener, and wait for the next start."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    with (
        listening("127.0.0.1", 8080) as manager,
        Instance(tmp_path, "--engine", engine, before=handed(manager)) as one,
        contextlib.ExitStack() as held,
    ):
        one.wait_serving()
        (worker,) = one.workers("serving")
        os.kill(worker["pid"], signal.SIGSTOP)
        clients = [held.enter_context(asking()) for _ in range(5)]
        os.kill(one.process.pid, signal.SIGKILL)
        os.kill(worker["pid"], signal.SIGKILL)
        one.wait()
        wait_until(
            lambda: (info := info_of(manager)) is not None and info.unacked == 5,
            "they wait with the manager",
        )
        one.again()
        one.wait_serving()
        assert all(map(answered, clients))


def test_one_of_two_addresses_is_handed_over(netns: int, tmp_path: Path) -> None:
    """The other is bound here, and both are said; a wildcard for IPv6 serves IPv4 too."""
    both = (
        "import select, socket\n"
        "listeners = [socket.socket(fileno=3), socket.socket(fileno=4)]\n"
        "while True:\n"
        "    for one in select.select(listeners, [], [])[0]:\n"
        "        with one.accept()[0] as client: client.recv(99); client.send(b'200')"
    )
    flags = ("--bind", "0.0.0.0:8080", "--bind", "127.0.0.1:8081", "--engine", "drain")
    with listening("::", 8080) as manager, asking() as early:
        command = (sys.executable, "-S", "-c", both)
        with Instance(tmp_path, *flags, before=handed(manager), command=command) as one:
            one.wait_serving()
            assert answered(early)
            assert "0.0.0.0:8080 is handed over by the service manager" in one.said()
            assert "127.0.0.1:8081 is not handed over by the service manager: bound" in one.said()
            for host, port in (("127.0.0.1", 8080), ("::1", 8080), ("127.0.0.1", 8081)):
                with asking(host, port) as client:
                    assert answered(client)
            assert one.ask("stop")["exit"] == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 8081))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bind", "127.0.0.1:9000"), "listens at 127.0.0.1:8080, which is not a --bind: add"),
        (("--bind-by", "worker"), "--bind-by worker makes no sense"),
        (("--beside",), "--beside does not go with"),
    ],
)
def test_what_does_not_fit_is_refused(
    netns: int, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    """Its clients would wait for ever."""
    with (
        listening("127.0.0.1", 8080) as manager,
        Instance(tmp_path, *flags, before=handed(manager)) as one,
    ):
        assert one.wait() == 2
        assert said in one.said()


def test_what_is_not_a_listener_is_refused_or_left_alone(netns: int, tmp_path: Path) -> None:
    """A connection is the work of Accept=yes; another kind of socket may be for the worker."""
    with listening("127.0.0.1", 8080) as manager:
        with (
            socket.create_connection(("127.0.0.1", 8080)),
            manager.accept()[0] as connection,
            Instance(tmp_path, before=handed(connection)) as one,
        ):
            assert one.wait() == 2
            assert "is a connection and not a listener" in one.said()
            assert "Accept=no" in one.said()
        with (
            socket.socket(socket.AF_UNIX) as other,
            Instance(tmp_path, before=handed(manager, other)) as one,
        ):
            one.wait_serving()
            assert "descriptor 4 ('other') of the service manager is not a TCP" in one.said()


def test_a_process_in_between_is_named(netns: int, tmp_path: Path) -> None:
    """Its number is in LISTEN_PID, and segue has only inherited the listener."""
    with (
        listening("127.0.0.1", 8080) as manager,
        Instance(tmp_path, before=(*handed(manager), "sh", "-c", '"$@"; exit $?', "sh")) as one,
    ):
        assert one.wait() == 1
        assert f"{ADDRESS} is in use by segue itself: a service manager handed over the" in (
            one.said()
        )
        assert "or by exec" in one.said()


def test_a_second_listener_of_one_address_and_a_wrong_number(netns: int, tmp_path: Path) -> None:
    """Both are the unit's mistake, and are said so."""
    with (
        listening("127.0.0.1", 8080) as manager,
        Instance(tmp_path, before=handed(manager, manager)) as one,
    ):
        assert one.wait() == 2
        assert f"is a second listener at {ADDRESS}" in one.said()
    env = {"LISTEN_FDS": "9"}
    with (
        listening("127.0.0.1", 8080) as manager,
        Instance(tmp_path, before=handed(manager), env=env) as one,
    ):
        assert one.wait() == 2
        assert "LISTEN_FDS is 9, and descriptor 4 ('other')" in one.said()


@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_a_supervisor_dies_while_it_gives_clients_to_workers(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """In the middle of a cycle the manager's listener is shut down; or a finisher has it."""
    flags = ("--bind", ADDRESS, "--engine", engine)
    with listening("127.0.0.1", 8080) as manager:
        with Instance(tmp_path, *flags, before=handed(manager)) as one:
            one.wait_serving()
            if engine == "migrate":
                os.kill(one.process.pid, signal.SIGKILL)
                one.wait()
                manager.shutdown(socket.SHUT_RDWR)
            else:
                assert one.ask("stop")["exit"] == 0
                one.wait()
                with asking() as client:
                    one.again()
                    taking = "another worker takes them"
                    wait_until(lambda: taking in one.said(), "a finisher")
                    os.kill(one.process.pid, signal.SIGKILL)
                    one.wait()
                    assert answered(client)
            one.again()
            wait_until(lambda: took_over(one), "it takes over")
            one.wait_serving()
            assert is_listening(manager)
            with asking() as client:
                assert answered(client)
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
        assert is_listening(manager)
