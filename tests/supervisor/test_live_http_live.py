"""--live-http: workers that accept and do not answer well are replaced; clients lose nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance, load
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# On a busy machine, a worker that is well may need some tenths of a second.
FLAGS = ("--live-http", "/live", "--live-every", "1", "--live-timeout", "1")
# A thread for each connection.  While the file exists, this worker's answer to /live is as it says.
SERVER = """
import os, socket, sys, threading, time
def serve(client):
    asked = client.recv(1000)
    said = open(sys.argv[1]).read() if os.path.exists(sys.argv[1]) else ""
    bad = asked.startswith(b"GET /live") and said.partition(" ")[0] in (str(os.getpid()), "all")
    if bad and said.endswith("silent"):
        time.sleep(60)
    status = b"500 Sick" if bad else b"200 OK"
    rest = b"Content-Length: 0\\r\\nConnection: close\\r\\n\\r\\n"
    client.sendall(b"HTTP/1.1 " + status + b"\\r\\n" + rest)
    client.close()
listener = socket.socket(fileno=3)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def started(tmp_path: Path, *flags: str) -> tuple[Instance, Path]:
    sick = tmp_path / "sick"
    command = (sys.executable, "-S", "-E", "-c", SERVER, str(sick))
    return Instance(tmp_path, *FLAGS, *flags, command=command), sick


@pytest.mark.parametrize(
    ("how", "why"),
    [("ill", "GET /live was answered 500"), ("silent", "GET /live was not answered within 1 s")],
)
def test_one_that_does_not_answer_well_is_replaced(
    netns: int, tmp_path: Path, how: str, why: str
) -> None:
    """After two failures, successor first; the other one stays, and no client is lost.

    One that is silent holds our questions, so it is not quiet before its drain limit.
    """
    flags = ("--workers", "2", "--live-failures", "2", "--drain-timeout", "1")
    instance, sick = started(tmp_path, *flags)
    with instance as one:
        one.wait_serving(1, 2)
        victim, other = (worker["pid"] for worker in one.workers("serving"))
        with load() as finish:
            sick.write_text(f"{victim} {how}")
            wait_until(lambda: not os.path.exists(f"/proc/{victim}"), f"its end\n{one.said()}")
            one.wait_serving(1, 2)
            assert finish().lost == 0
        assert other in {worker["pid"] for worker in one.workers("serving")}
        assert f"(pid {victim}) is replaced: {why} (failure 2 in a row)" in one.said()


def test_where_all_fail_workers_are_replaced_one_after_the_other(
    netns: int, tmp_path: Path
) -> None:
    """Never two at a time, and somebody serves all the time."""
    instance, sick = started(tmp_path, "--workers", "2", "--live-failures", "2")
    with instance as one:
        one.wait_serving(1, 2)
        sick.write_text("all ill")
        wait_until(lambda: one.said().count(" is replaced: ") >= 3, "three of them")
        sick.unlink()
        one.wait_serving(1, 2)
        lines = [line for line in one.said().splitlines() if "replaced:" in line or "ready" in line]
        assert "replaced" not in "".join(lines[:2])
        # A successor is ready before the next one is replaced.
        kinds = ["replaced:" in line for line in lines[2:]]
        assert kinds == [True, False] * (len(kinds) // 2)


def test_a_worker_that_is_stopped_is_replaced_without_clients(netns: int, tmp_path: Path) -> None:
    """The question itself waits there, so no client need be kept waiting."""
    # It may be stopped with a question that it has accepted, which it then drains.
    flags = ("--live-failures", "2", "--stop-timeout", "0.2", "--drain-timeout", "1")
    instance, _ = started(tmp_path, *flags)
    with instance as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: not os.path.exists(f"/proc/{victim}"), f"its end\n{one.said()}")
        one.wait_serving()
        assert f"(pid {victim}) is replaced: GET /live " in one.said()


def test_a_question_that_waits_is_no_client(netns: int, tmp_path: Path) -> None:
    """Status says what fails until it is mended, and that nobody waits or hangs."""
    instance, _ = started(tmp_path, "--live-failures", "1000")
    with instance as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)

        def failing() -> str:
            return str(one.workers("serving")[0]["failing"])

        wait_until(lambda: "has not been accepted for" in failing(), "a question that waits on")
        worker = one.workers("serving")[0]
        assert (worker["queue"], worker["hangs"]) == (0, "")
        os.kill(victim, signal.SIGCONT)
        wait_until(lambda: not failing(), "an answer")


def test_questions_are_not_counted_as_clients(netns: int, tmp_path: Path) -> None:
    """Before a re-exec and after it."""
    instance, _ = started(tmp_path)
    with instance as one:
        one.wait_serving()
        before = one.workers("serving")[0]["new"]

        def asked() -> int:
            return int(one.status()["fronts"][0]["counts"]["new"])

        for _ in range(3):
            with socket.create_connection(("127.0.0.1", 8080)) as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert one.ask("reexec")["exit"] == 0
        wait_until(lambda: one.workers("serving"), "its status")
        assert one.workers("serving")[0]["new"] == before + 3
        assert asked() == before + 3
