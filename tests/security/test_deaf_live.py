"""Workers and strangers that keep a supervisor as busy as they can: it hears all the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE, wait_until

from segue.supervisor.notify import MOST_MESSAGES, Inbox

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# It answers, and from a request for /flood on it writes newlines as fast as it can.
FLOODER = """
import os, socket, threading
s = socket.socket(fileno=3)
def flood():
    while True: os.write(1, b'\\n' * 65536)
while True:
    c, _ = s.accept()
    if b'/flood' in c.recv(4096): threading.Thread(target=flood, daemon=True).start()
    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')
    c.close()
"""
PYTHON = (sys.executable, "-S", "-E", "-c")


def flood(count: int) -> None:
    """Ask so many times that every worker floods; a worker that is asked twice does so twice."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE) as client:
            client.sendall(b"GET /flood HTTP/1.1\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_workers_that_flood_the_log_delay_no_order(netns: int, tmp_path: Path) -> None:
    """Eight workers write newlines for good: a canary is begun and rolled back, and SIGTERM ends
    the instance with nobody killed for being slow.
    """
    flags = ("--workers", "8", "--stop-timeout", "60")
    with Instance(tmp_path, *flags, command=(*PYTHON, FLOODER)) as one:
        one.wait_serving(1, 8)
        flood(24)
        wait_until(lambda: one.output.stat().st_size > 1_000_000, "a flood")
        assert len(one.workers("serving")) == 8
        assert one.ask("restart", canary=5, wait=False)["exit"] == 0
        assert one.ask("rollback")["exit"] == 0
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert "is killed" not in one.said()


def test_what_is_left_out_of_the_log_is_counted(netns: int, tmp_path: Path) -> None:
    """One worker writes newlines for good: the status has the count, and the log says it."""
    with Instance(tmp_path, command=(*PYTHON, FLOODER)) as one:
        one.wait_serving()
        assert (one.status()["unread"], one.workers("serving")[0]["left_out"]) == (0, 0)
        flood(1)
        wait_until(lambda: one.workers("serving")[0]["left_out"], "the count in the status")
        wait_until(lambda: "are left out here" in one.said(), "the count in the log")


def test_the_last_words_of_a_worker_come_through_a_flood(netns: int, tmp_path: Path) -> None:
    """While others write newlines for good, one says why it ends: that is in the log."""
    dying = FLOODER.replace(
        "    c, _ = s.accept()\n",
        "    c, _ = s.accept()\n"
        "    if os.environ['SEGUE_WORKER'].endswith('w2') and os.path.exists(os.environ['DIE']):\n"
        "        os.write(2, b'these are my last words'); os._exit(7)\n",
    ).replace(
        "def flood():\n", "def flood():\n    if os.environ['SEGUE_WORKER'].endswith('w2'): return\n"
    )
    end = tmp_path / "end"
    flags = ("--workers", "2", "--env", f"DIE={end}")
    with Instance(tmp_path, *flags, command=(*PYTHON, dying)) as one:
        one.wait_serving(1, 2)
        flood(8)
        end.touch()

        def died() -> bool:
            with socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE):
                return "exited with 7" in one.said()

        wait_until(died, "the end of a worker")
        assert "worker 1.2 | these are my last words\n" in one.said()


def test_another_user_s_notifications_are_dropped_and_counted(netns: int, tmp_path: Path) -> None:
    """Whoever can reach the socket may write to it; his words cost a read and no more."""
    stranger = (
        "import os, socket, sys\n"
        "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "for _ in range(100): s.sendto(b'READY=1', 't.notify')\n"
    )
    with Instance(tmp_path, command=(*PYTHON, FLOODER)) as one:
        one.wait_serving()
        (tmp_path / "run").chmod(0o711)
        before = one.status()["notifications_dropped"]
        argv = [*PYTHON, stranger, str(tmp_path / "run")]
        subprocess.run(argv, check=True, timeout=PATIENCE)
        wait_until(
            lambda: one.status()["notifications_dropped"] == before + 100, "all of them counted"
        )


def test_a_round_reads_a_bounded_number_of_notifications(tmp_path: Path) -> None:
    """The others wait for the next round; those of users who are not trusted are not parsed."""
    inbox = Inbox(str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sent = 0
        try:
            while sent < 3 * MOST_MESSAGES:
                sender.sendto(b"READY=1", inbox.path)
                sent += 1
        except BlockingIOError:
            pass  # the kernel keeps no more
    asked: list[int] = []
    found = inbox.receive(lambda uid: asked.append(uid) or len(asked) > 2)  # type: ignore[func-returns-value]
    assert len(found) == min(sent, MOST_MESSAGES) - 2
    assert {(one.pid, one.ready) for one in found} == {(os.getpid(), True)}
    assert (inbox.dropped, set(asked)) == (2, {os.geteuid()})
    inbox.close()


def test_a_worker_with_many_processes_is_not_looked_at_whole(netns: int, tmp_path: Path) -> None:
    """The status says that it does not know what it holds; a restart counts it as busy while a
    connection of anybody's is left, and not longer.
    """
    forking = FLOODER.replace(
        "while True:\n    c, _",
        "import signal\n"
        "if os.environ['SEGUE_GENERATION'] == '1':\n"
        "    for _ in range(300):\n"
        "        if os.fork() == 0: signal.pause()\n"
        "while True:\n    c, _",
    )
    flags = ("--idle-grace", "0.1", "--drain-timeout", "60")
    with Instance(tmp_path, *flags, command=(*PYTHON, forking)) as one:
        one.wait_serving()
        assert [worker["connections"] for worker in one.workers("serving")] == [None]
        assert one.ask("restart")["exit"] == 0
        assert "has too many processes to look at all of them" in one.said()
        assert [worker["connections"] for worker in one.workers("serving")] == [0]
