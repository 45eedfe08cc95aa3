"""Servers that serve IPv4 with an IPv6 socket, under ``segue run``; and ``--bind [::]:PORT``."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import DRAIN, ROOT, Instance, load, wait_for_load
from tests.waiting import PATIENCE, wait_until

from segue.linux import sysctl

pytestmark = pytest.mark.root

SERVER = (sys.executable, "-S", "-E", str(ROOT / "tests/supervisor/dual_stack_server.py"))
CASES = pytest.mark.parametrize(
    ("asked", "host"), [("0.0.0.0:8080", "::"), ("127.0.0.1:8080", "::ffff:127.0.0.1")]
)


def answered(host: str) -> bool:
    """Somebody takes a connection at this host."""
    try:
        with socket.create_connection((host, 8080), timeout=PATIENCE):
            return True
    except OSError:
        return False


def another_serves(one: Instance, pid: int) -> bool:
    """The one worker that serves is not this one."""
    return [worker["pid"] for worker in one.workers("serving")] not in ([], [pid])


@CASES
@pytest.mark.parametrize("engine", ["migrate", DRAIN])
def test_it_is_found_and_restarted_under_load(
    netns: int, tmp_path: Path, asked: str, host: str, engine: str
) -> None:
    """What was asked is an IPv4 address, and the listener that takes its connections is ready."""
    flags = ("--bind", asked, "--bind-by", "worker", "--engine", engine, "--ready-timeout", "10")
    with Instance(tmp_path, *flags, command=(*SERVER, host, "{port}")) as one:
        one.wait_serving()
        assert f"listens at [{host}]:8080, which takes what comes to {asked}" in one.said()
        with load("--rate", "40") as finish:
            wait_for_load()
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())


def test_the_only_worker_dies_and_its_listener_stays(netns: int, tmp_path: Path) -> None:
    """It bound the listener itself: who connects meanwhile waits there for its successor."""
    flags = ("--bind", "127.0.0.1:8080", "--bind-by", "worker", "--engine", "migrate")
    command = (*SERVER, "::ffff:127.0.0.1", "{port}")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        with load("--rate", "40") as finish:
            for _ in range(2):
                wait_for_load()
                (worker,) = one.workers("serving")
                os.kill(worker["pid"], signal.SIGSTOP)  # so that some wait there
                wait_for_load(5)
                os.kill(worker["pid"], signal.SIGKILL)
                wait_until(functools.partial(another_serves, one, worker["pid"]), one.said())
            wait_for_load()
            result = finish()
        # The one that the worker had accepted is its own.
        assert result.lost <= 2, (result.counts, result.examples, one.said())
        assert result.total > 100


def test_a_next_supervisor_takes_it_over_and_becomes_new_code(netns: int, tmp_path: Path) -> None:
    """The settings name another address than the listeners have."""
    flags = ("--bind", "0.0.0.0:8080", "--bind-by", "worker")
    with Instance(tmp_path, *flags, command=(*SERVER, "::", "{port}")) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGKILL)
        one.wait()
        one.again()
        wait_until(lambda: "took over 1 worker(s)" in one.said(), one.said())
        one.wait_serving()
        assert one.ask("reexec")["exit"] == 0
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        assert one.status()["fronts"][0]["address"] == "[::]:8080"


@CASES
def test_the_supervisor_binds_beside_it(netns: int, tmp_path: Path, asked: str, host: str) -> None:
    """``--beside`` joins the group that serves the address, so that its server can stop."""
    other = subprocess.Popen([*SERVER, host, "8080"])
    try:
        wait_until(lambda: answered("127.0.0.1"), "the other server")
        with Instance(tmp_path, "--bind", asked, "--beside") as one:
            one.wait_serving()
            assert one.status()["fronts"][0]["address"] == f"[{host}]:8080"
            assert f"{asked} is served at [{host}]:8080" in one.said()
            other.kill()
            other.wait()
            assert answered("127.0.0.1")
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(("only", "by_ipv4"), [("0", True), ("1", False)])
def test_the_system_says_whether_an_ipv6_wildcard_takes_ipv4(
    netns: int, tmp_path: Path, only: str, by_ipv4: bool
) -> None:
    """As for every server that binds [::] itself: net.ipv6.bindv6only; over a restart too."""
    sysctl.write("net.ipv6.bindv6only", only)
    with Instance(tmp_path, "--bind", "[::]:8080") as one:
        one.wait_serving()
        # A group has one IPV6_V6ONLY, so a restart goes by the first listener's.
        sysctl.write("net.ipv6.bindv6only", "0" if only == "1" else "1")
        for generation in (1, 2):
            one.wait_serving(generation)
            assert (answered("::1"), answered("127.0.0.1")) == (True, by_ipv4)
            if generation == 1:
                assert one.ask("restart")["exit"] == 0


def test_both_wildcards_are_served_side_by_side(netns: int, tmp_path: Path) -> None:
    """Where an IPv4 address of the port is given too, the IPv6 one leaves IPv4 to it."""
    both = (
        "import select, socket\n"
        "listeners = [socket.socket(fileno=3), socket.socket(fileno=4)]\n"
        "while True:\n"
        "    for one in select.select(listeners, [], [])[0]: one.accept()[0].close()"
    )
    flags = ("--bind", "0.0.0.0:8080", "--bind", "[::]:8080")
    with Instance(tmp_path, *flags, command=(sys.executable, "-S", "-c", both)) as one:
        one.wait_serving()
        assert [front["address"] for front in one.status()["fronts"]] == [
            "0.0.0.0:8080",
            "[::]:8080",
        ]
        assert (answered("::1"), answered("127.0.0.1")) == (True, True)


def test_an_ipv6_wildcard_is_refused_where_ipv4_is_served(netns: int, tmp_path: Path) -> None:
    """Else it would get none of the IPv4 connections that it seems to take."""
    with (
        socket.create_server(("127.0.0.1", 8080)),
        Instance(tmp_path, "--bind", "[::]:8080") as one,
    ):
        assert one.wait() == 1
        assert "gets what comes by IPv4 too" in one.said()


def test_a_dual_stack_wildcard_without_ipv6_is_reached_by_ipv4(netns: int, tmp_path: Path) -> None:
    """Most containers have no IPv6 address at all, and servers listen at [::] there."""
    sysctl.write("net.ipv6.conf.all.disable_ipv6", "1")
    flags = ("--bind", "0.0.0.0:8080", "--bind-by", "worker")
    with Instance(tmp_path, *flags, command=(*SERVER, "::", "{port}")) as one:
        one.wait_serving()
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        assert answered("127.0.0.1")
