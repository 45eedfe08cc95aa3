"""The end of an instance: what clients notice of it, however it is asked for."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest
from tests.supervisor.instance import DRAIN, Instance, load, wait_for_load
from tests.supervisor.test_survival_live import PYTHON, SLOW, get, rest
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux import proc, sysctl
from segue.linux.sockopt import open_listener
from segue.page import DRAINING, SERVING, stage
from segue.probe.fates import Fate

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]
ENGINES = pytest.mark.parametrize("engine", ["migrate", "hash", DRAIN])


def test_a_second_term_changes_nothing(netns: int, tmp_path: Path) -> None:
    """The request in flight is answered, the exit code is 0, and the log says so once."""
    with Instance(tmp_path, command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        client = get("/0.01-1.5")
        wait_until(lambda: one.workers("serving")[0]["connections"], "an accepted request")
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.workers("stopping"), "the stop")
        for _ in range(2):
            os.kill(one.process.pid, signal.SIGTERM)
            wait_until(lambda: "TERM: the instance stops already" in one.said(), "a word")
        assert rest(client).endswith(b"..")
        assert one.wait() == 0
        assert one.said().count("the instance stops already") == 1
        assert one.said().count("is told to stop") == 1


@ENGINES
def test_whoever_waits_is_served_before_the_stop(netns: int, tmp_path: Path, engine: str) -> None:
    """A server that ends at the stop signal is told only when its queue is empty, and nobody new
    comes into it.
    """
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    with Instance(tmp_path, "--engine", engine, command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        pid = one.workers("serving")[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(pid), "a stopped worker")
        clients = [get("/0.01-0.01") for _ in range(20)]
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.status().get("phase") == "stopping", "the stop")
        with socket.socket() as late:
            late.setblocking(False)
            late.connect_ex(("127.0.0.1", 8080))
            assert one.workers("draining")[0]["queue"] == len(clients)
            os.kill(pid, signal.SIGCONT)
            assert [rest(client)[-2:] for client in clients] == [b".."] * len(clients)
            assert one.wait() == 0

            def refused() -> bool:
                return late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED

            # With drain and hash, when it asks again.
            wait_until(refused, "a refusal")


def test_after_a_long_response_a_worker_has_time_for_its_own_end(
    netns: int, tmp_path: Path
) -> None:
    """The stop timeout had passed when its last connection ended; it is not killed then."""
    tidy = SLOW.replace(
        "os._exit(0)", "time.sleep(0.3), print('tidied up', flush=True), os._exit(0)"
    )
    with Instance(tmp_path, "--stop-timeout", "1.5", command=(*PYTHON, tidy)) as one:
        one.wait_serving()
        client = get("/0.01-2.0")
        wait_until(lambda: one.workers("serving")[0]["connections"], "an accepted request")
        os.kill(one.process.pid, signal.SIGTERM)
        assert rest(client).endswith(b"..")
        assert one.wait() == 0
        assert "tidied up" in one.said()
        assert "is killed" not in one.said()


@ENGINES
def test_a_stop_under_load_resets_nobody(netns: int, tmp_path: Path, engine: str) -> None:
    """Each client is answered or refused, whatever the moment at which it came."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    flags = ("--engine", engine, "--workers", "2")
    with Instance(tmp_path, *flags) as one:
        one.wait_serving(1, 2)
        with load() as finish:
            wait_for_load()
            os.kill(one.process.pid, signal.SIGTERM)
            assert one.wait() == 0
            counts = finish().counts
        assert set(counts) <= {Fate.OK, Fate.REFUSED}, counts


def test_workers_serve_on_while_the_instance_leaves(netns: int, tmp_path: Path) -> None:
    """They hear of the end first, and a new client is served until --stop-delay is over."""
    with Instance(tmp_path, "--stop-delay", "2", command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        flag = tmp_path / "run" / "t.w1"
        assert stage(flag.read_bytes()) == SERVING
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.status().get("phase") == "leaving", "the announcement")
        assert stage(flag.read_bytes()) == DRAINING
        assert one.workers("serving")
        assert rest(get("/0.01-0.01")).endswith(b"..")
        assert "it restarts no more" in one.ask("restart")["error"]
        assert one.wait() == 0
        assert "stopping in 2 s" in one.said()


def test_a_stop_ends_at_its_limit(netns: int, tmp_path: Path) -> None:
    """A worker with an endless answer, and without ears for the stop signal, is killed then."""
    script = "import signal\nsignal.signal = lambda *_: None\n" + SLOW
    ignore = ("sh", "-c", 'trap "" TERM; exec "$@"', "sh", *PYTHON, script)
    with Instance(tmp_path, "--stop-limit", "1", command=ignore) as one:
        one.wait_serving()
        client = get("/0.01-600")
        wait_until(lambda: one.workers("serving")[0]["connections"], "an accepted request")
        os.kill(one.process.pid, signal.SIGTERM)
        assert one.wait() == 0
        assert "is killed: it did not stop in time" in one.said()
        client.close()


def test_others_at_the_address_serve_on(netns: int, tmp_path: Path) -> None:
    """A server beside the instance is refused no client when that stops, nor after it."""
    with open_listener(Address("127.0.0.1", 8080), backlog=64) as other:
        with Instance(tmp_path, "--beside") as one:
            one.wait_serving()
            os.kill(one.process.pid, signal.SIGTERM)
            assert one.wait() == 0
            assert "which serves on" in one.said()
        with get("/"):
            other.accept()[0].close()


@pytest.mark.parametrize("engine", ["migrate", DRAIN])
@pytest.mark.parametrize("how", ["a crash", "reexec"])
def test_a_next_supervisor_goes_on_with_the_stop(
    netns: int, tmp_path: Path, engine: str, how: str
) -> None:
    """It refuses new clients too, and tells the worker to stop when the queue is empty."""
    hold = tmp_path / "hold"
    pause = f"while True:\n    while os.path.exists({str(hold)!r}):\n        time.sleep(0.01)\n"
    with Instance(
        tmp_path, "--engine", engine, command=(*PYTHON, SLOW.replace("while True:\n", pause))
    ) as one:
        one.wait_serving()
        hold.touch()
        clients = [get("/0.01-0.01") for _ in range(5)]  # the first meets an accept() under way
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.workers("draining"), "the stop")
        if how == "reexec":
            assert one.ask("reexec")["exit"] == 0
        else:
            one.process.kill()
            one.process.wait()
            one.again()
            wait_until(one.status, "the next supervisor")
        if engine == "migrate":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
        assert one.workers("draining")
        hold.unlink()
        assert [rest(client)[-2:] for client in clients] == [b".."] * len(clients)
        assert one.wait() == 0
