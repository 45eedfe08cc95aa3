"""A worker that does not get ready: the reason is in the exit message and in the status."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, SERVER, Instance
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

REFUSES = """
import socket
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    client.recv(1000)
    client.sendall(b"HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.close()
"""
# Listens where nobody asked it to, as a server does that finds another LISTEN_PID than its own.
ELSEWHERE = """
import os, socket, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", 8000))
listener.listen()
time.sleep(60)
"""


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-E", "-c", script)


def missing(one: Instance) -> str:
    """Of the worker that starts."""
    return "".join(worker["missing"] for worker in one.workers("starting"))


def test_what_it_answered_is_said(netns: int, tmp_path: Path) -> None:
    """--ready-http and a server that says 400: so the status says, and the last sentence."""
    flags = ("--ready-http", "/h", "--ready-timeout", "2")
    with Instance(tmp_path, *flags, command=python(REFUSES)) as one:
        wait_until(lambda: missing(one) == "GET /h was answered 400", "the status")
        assert one.wait() == 3
        assert "was not ready after 2 s: GET /h was answered 400" in one.said()


def test_a_server_below_a_shell_is_told_of(netns: int, tmp_path: Path) -> None:
    """It listens elsewhere, and LISTEN_PID is the shell's: both are said."""
    command = ("sh", "-c", '"$@"; exit $?', "sh", *python(ELSEWHERE))
    with Instance(tmp_path, "--ready-timeout", "2", command=command) as one:
        wait_until(lambda: "LISTEN_PID is of pid" in missing(one), "the status")
        assert ") listens at 127.0.0.1:8000; LISTEN_PID is of pid" in missing(one)
        assert one.wait() == 3
        assert "it has not accepted a connection; pid" in one.said()


def test_one_that_binds_the_address_itself_is_told_how_it_is_run(
    netns: int, tmp_path: Path
) -> None:
    """It serves, and clients may even come to it; but not by the listener that it was given."""
    itself = ELSEWHERE.replace("8000", "8080")
    assert itself != ELSEWHERE
    with Instance(tmp_path, "--ready-timeout", "2", command=python(itself)) as one:
        assert one.wait() == 3
        assert "listens at 127.0.0.1:8080; it has opened that itself, and has not" in one.said()


def test_one_that_takes_no_ipv4_is_told_so(netns: int, tmp_path: Path) -> None:
    """It is at [::], as servers are that serve IPv4 too, and has set IPV6_V6ONLY."""
    alone = (
        "import socket, time\n"
        "listener = socket.socket(socket.AF_INET6)\n"
        "listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        "listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "listener.bind(('::', 8080)), listener.listen(), time.sleep(60)"
    )
    flags = ("--ready-timeout", "2", "--bind-by", "worker")
    with Instance(tmp_path, *flags, command=python(alone)) as one:
        assert one.wait() == 3
        assert ") listens at [::]:8080 for IPv6 alone" in one.said()


def test_a_restart_that_fails_says_the_same(netns: int, tmp_path: Path) -> None:
    """Whoever asked for it hears where the newcomer listens."""
    serve = " ".join(f"'{word}'" for word in SERVER)
    other = " ".join(f"'{word}'" for word in python("import time; time.sleep(60)"))
    script = f"[ $SEGUE_GENERATION = 1 ] && exec {serve}; exec {other}"
    with Instance(tmp_path, "--ready-timeout", "2", command=("sh", "-c", script)) as one:
        one.wait_serving()
        answer = one.ask("restart")
        assert answer["exit"] == 3
        assert answer["error"].endswith("not ready after 2 s: it has not accepted a connection")


def test_a_server_that_closes_its_listener_is_told_of(netns: int, tmp_path: Path) -> None:
    """As a script does that closes all descriptors; one that binds was given none."""
    closing = python("import os, time; os.closerange(3, 100); time.sleep(60)")
    closed = "it has not accepted a connection; it has closed the listener that it was given"
    with Instance(tmp_path, command=closing) as one:
        wait_until(lambda: missing(one) == closed, "the status")
    (tmp_path / "output").unlink()
    flags = ("--bind-by", "worker", "--ready-timeout", "1.5")
    with Instance(tmp_path, *flags, command=closing) as one:
        assert one.wait() == 3
        assert "it does not listen at the address of --bind" in one.said()
        assert "was given" not in one.said()


def test_where_it_does_not_accept_is_said(netns: int, tmp_path: Path) -> None:
    """Of two addresses it serves one, as with one --fd too few."""
    second = "127.0.0.1:8081"
    flags = ("--bind", ADDRESS, "--bind", second, "--ready-timeout", "2")
    with Instance(tmp_path, *flags, command=SERVER) as one:
        wait_until(lambda: missing(one).endswith(f"a connection at {second}"), "the status")
        assert one.wait() == 3
        assert f"it has not accepted a connection at {second}" in one.said()
