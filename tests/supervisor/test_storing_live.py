"""Listeners that a service manager keeps (FDSTORE): over the death of everything, until a stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Self

import pytest
from tests.supervisor.instance import ADDRESS, SERVER, Instance, load, wait_for_load
from tests.supervisor.test_activation_live import answered, asking, handed, took_over
from tests.waiting import wait_until

from segue.errors import KernelError
from segue.linux import scm_rights, sysctl
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import cookie, is_listening

pytestmark = pytest.mark.root

NAME = f"segue/{ADDRESS.replace(':', '_')}"


class Manager:
    """A notify socket, and what systemd would keep: each socket once, until told to forget."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "manager")
        self.kept: dict[int, tuple[str, socket.socket]] = {}
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._inbox.bind(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._inbox.close()
        for _, one in self.kept.values():
            one.close()

    def environment(self, room: int = 1) -> dict[str, str]:
        """What a unit with FileDescriptorStoreMax= has."""
        return {"NOTIFY_SOCKET": self.path, "FDSTORE": str(room)}

    def look(self) -> list[socket.socket]:
        """Read what has come; what is kept then."""
        while True:
            try:
                text, descriptors = scm_rights.receive(self._inbox, 4096)
            except KernelError:
                return [one for _, one in self.kept.values()]
            values = dict(line.split("=", 1) for line in text.decode().splitlines())
            for descriptor in descriptors:
                assert values["FDPOLL"] == "0"
                one = socket.socket(fileno=descriptor)
                if cookie(one) in self.kept:
                    one.close()
                else:
                    self.kept[cookie(one)] = values["FDNAME"], one
            if values.get("FDSTOREREMOVE") == "1":
                for number, (name, one) in list(self.kept.items()):
                    if name == values["FDNAME"]:
                        one.close()
                        del self.kept[number]

    def one(self) -> socket.socket:
        """The only listener that is kept."""
        wait_until(self.look, "a listener is stored")
        (found,) = self.look()
        return found

    def start(self, one: Instance) -> None:
        """Start the service again with what is kept; messages that wait are read later."""
        names = ":".join(name for name, _ in self.kept.values())
        at = one.argv.index("-m") - 1
        one.argv = [*handed(*(it for _, it in self.kept.values()), names=names), *one.argv[at:]]
        one.again()


@pytest.mark.parametrize("engine", ["migrate", "hash", "drain"])
def test_nobody_is_refused_when_everything_dies(netns: int, tmp_path: Path, engine: str) -> None:
    """Who comes meanwhile waits, and where connections migrate, who waited at workers does too."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    with (
        Manager(tmp_path) as manager,
        Instance(tmp_path, "--engine", engine, env=manager.environment()) as one,
        contextlib.ExitStack() as held,
    ):
        one.wait_serving()
        kept = manager.one()
        assert [name for name, _ in manager.kept.values()] == [NAME]
        assert one.status()["fronts"][0]["strangers"] == []
        (worker,) = one.workers("serving")
        os.kill(worker["pid"], signal.SIGSTOP)
        moving = [held.enter_context(asking()) for _ in range(3 * (engine != "drain"))]
        os.kill(one.process.pid, signal.SIGKILL)
        os.kill(worker["pid"], signal.SIGKILL)
        one.wait()
        clients = moving + [held.enter_context(asking()) for _ in range(3)]
        wait_until(
            lambda: (info := info_of(kept)) is not None and info.unacked == len(clients),
            "they wait with the manager",
        )
        manager.start(one)
        one.wait_serving()
        assert all(map(answered, clients))
        assert f"{ADDRESS} was kept by the service manager" in one.said()
        assert manager.one() is kept
        with load("--rate", "60") as finish:
            wait_for_load(10)
            assert one.ask("reexec")["exit"] == 0
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
            wait_for_load(10)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
        assert manager.look() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 8080))


def test_a_supervisor_that_takes_over_has_what_is_kept(netns: int, tmp_path: Path) -> None:
    """Also one that goes on with a stop, where it is closed; the manager may still have it then."""
    with (
        Manager(tmp_path) as manager,
        Instance(tmp_path, env=manager.environment()) as one,
    ):
        one.wait_serving()
        kept = manager.one()
        os.kill(one.process.pid, signal.SIGKILL)
        one.wait()
        manager.start(one)
        wait_until(lambda: took_over(one), "it takes over")
        one.wait_serving()
        assert manager.one() is kept
        assert is_listening(kept)
        with asking() as client:
            assert answered(client)
        (worker,) = one.workers("serving")
        os.kill(worker["pid"], signal.SIGSTOP)
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(kept), "nobody listens with it")
        wait_until(lambda: one.status().get("phase") == "stopping", "the stop is written down")
        os.kill(one.process.pid, signal.SIGKILL)
        one.wait()
        manager.start(one)
        os.kill(worker["pid"], signal.SIGCONT)
        assert one.wait() == 0
        assert manager.look() == []


def test_a_start_that_fails_keeps_who_waits(netns: int, tmp_path: Path) -> None:
    """A service manager tries again, or closes what it keeps."""
    failing = (sys.executable, "-S", "-c", "raise SystemExit(1)")
    with (
        Manager(tmp_path) as manager,
        Instance(tmp_path, command=failing, env=manager.environment()) as one,
    ):
        assert one.wait() == 3
        kept = manager.one()
        assert is_listening(kept)
        with asking() as client:
            one.argv[-len(failing) :] = SERVER
            manager.start(one)
            one.wait_serving()
            assert answered(client)


def test_settings_that_have_changed_meanwhile(netns: int, tmp_path: Path) -> None:
    """What is at no address any more is closed; with --bind-by worker nothing can be kept."""
    with (
        Manager(tmp_path) as manager,
        Instance(tmp_path, env=manager.environment()) as one,
    ):
        one.wait_serving()
        before = manager.one()
        (worker,) = one.workers("serving")
        os.kill(one.process.pid, signal.SIGKILL)
        os.kill(worker["pid"], signal.SIGKILL)
        one.wait()
        one.argv[one.argv.index(ADDRESS)] = "127.0.0.1:8081"
        manager.start(one)
        one.wait_serving()
        assert "what the service manager kept is closed: descriptor 3" in one.said()
        after = manager.one()
        assert before.fileno() == -1
        assert after.getsockname() == ("127.0.0.1", 8081)
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


@pytest.mark.parametrize(
    ("flags", "room", "said"),
    [
        (("--bind-by", "worker"), 1, "can keep no listener for the next start with --bind-by"),
        (("--bind", ADDRESS, "--bind", "127.0.0.1:8081"), 1, "FileDescriptorStoreMax=2"),
        (("--bind", ADDRESS), 0, ""),
    ],
)
def test_what_cannot_be_kept_is_said(
    netns: int, tmp_path: Path, flags: tuple[str, ...], room: int, said: str
) -> None:
    """The instance begins without."""
    with (
        Manager(tmp_path) as manager,
        Instance(tmp_path, *flags, env=manager.environment(room)) as one,
    ):
        wait_until(lambda: one.status().get("workers"), "it has begun")
        assert manager.look() == []
        assert said in one.said()
        assert ("keep" in one.said()) is bool(said)
