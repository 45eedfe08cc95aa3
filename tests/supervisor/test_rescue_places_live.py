"""Rescue, listener by listener: full queues, and workers that listen at two addresses."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.supervisor.test_faults_live import answered, connect
from tests.supervisor.test_rescue_live import share, stop
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# asyncio listens again with a backlog of its own; this one leaves its listeners as they are.
SERVER = """
import contextlib, os, select, socket
listeners = [socket.socket(fileno=3 + n) for n in range(int(os.environ["LISTEN_FDS"]))]
while True:
    for listener in select.select(listeners, [], [])[0]:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            if client.recv(4096):
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""
COMMAND = (sys.executable, "-S", "-E", "-c", SERVER)


def test_a_full_queue_fits_into_an_empty_sibling(netns: int, tmp_path: Path) -> None:
    """What is dropped at a full queue comes again a second later, and goes elsewhere by then."""
    flags = ("--workers", "2", "--backlog", "4", "--rescue", "300ms")
    with Instance(tmp_path, *flags, command=COMMAND) as one:
        one.wait_serving(1, 2)
        victim = one.workers("serving")[0]["pid"]
        stop(victim)
        assert answered(connect(40)) == 40  # of some 20 it holds 5
        assert share(one, victim) == 0
        assert one.status()["rescued"] > 0
        os.kill(victim, signal.SIGCONT)
        wait_until(lambda: share(one, victim) == 50, "its share back")


def test_each_address_of_a_stalled_worker_is_rescued(netns: int, tmp_path: Path) -> None:
    """A worker has a listener at each address, and whoever waits at either is served."""
    flags = ("--workers", "2", "--bind", "127.0.0.1:8080", "--bind", "127.0.0.1:8081")
    with Instance(tmp_path, *flags, command=COMMAND) as one:
        one.wait_serving(1, 2)
        victim = one.workers("serving")[0]["pid"]
        stop(victim)
        clients = connect(20)
        for _ in range(20):
            clients.append(socket.create_connection(("127.0.0.1", 8081), timeout=PATIENCE))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answered(clients) == 40
        os.kill(victim, signal.SIGCONT)
        wait_until(lambda: "accepts again" in one.said(), "the end of the stall")
        assert share(one, victim) > 0
