"""When a worker counts as ready, what it is told, and what becomes of its output."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from tests.probe.servers import certificate
from tests.supervisor.instance import Instance, load
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# Answers 503 to /health until the file that it is given exists, and 200 to everything else.
GRADUAL = """
import os, socket, sys
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    asked = client.recv(1000)
    warm = os.path.exists(sys.argv[1]) or not asked.startswith(b"GET /health")
    status = b"200 OK" if warm else b"503 Not Yet"
    head = b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n"
    try:
        client.sendall(head)
    except OSError:
        pass
    client.close()
"""
# Says READY=1 only once the file exists; accepts from the start.
NOTIFIES = """
import os, socket, sys, threading, time
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(text, os.environ["NOTIFY_SOCKET"])
def serve():
    listener = socket.socket(fileno=3)
    while True:
        client, _ = listener.accept()
        client.close()
tell(b"STATUS=warming up")
threading.Thread(target=serve, daemon=True).start()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
tell(b"READY=1")
print("said", flush=True)
while True:
    time.sleep(1)
"""


# Answers 302 over TLS to a name and with a header, 400 to everything else; prints the name in SNI.
SECURE = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.sni_callback = lambda _, name, __: print("SNI is", name, flush=True)
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    try:
        with context.wrap_socket(client, server_side=True) as secure:
            asked = secure.recv(1000)
            right = b"\\r\\nHost: shop.example\\r\\n" in asked and b"\\r\\nX-Key: s\\r\\n" in asked
            secure.sendall(b"HTTP/1.1 " + (b"302 Found" if right else b"400 No") + b"\\r\\n\\r\\n")
    except OSError:
        client.close()
"""


def python(script: str, *args: object) -> tuple[str, ...]:
    return (sys.executable, "-S", "-E", "-c", script, *map(str, args))


def test_with_ready_http_a_worker_is_ready_when_it_answers_2xx(netns: int, tmp_path: Path) -> None:
    """A 503 is asked again, and said when time is up; a 200 flips."""
    warm = tmp_path / "warm"
    warm.touch()
    flags = ("--ready-http", "/health", "--ready-timeout", "1")
    with Instance(tmp_path, *flags, command=python(GRADUAL, warm)) as one:
        one.wait_serving()
        warm.unlink()
        with load() as finish:
            assert one.ask("restart")["exit"] == 3
            assert finish().lost == 0
        one.wait_serving(1)
        warm.touch()
        assert one.ask("restart")["exit"] == 0


@pytest.mark.parametrize("mode", ["auto", "notify"])
def test_a_worker_that_speaks_sd_notify_is_awaited(netns: int, tmp_path: Path, mode: str) -> None:
    """It accepts from the start, but has said STATUS: so READY=1 is waited for."""
    warm = tmp_path / "warm"
    flags = ("--ready", mode)
    with Instance(tmp_path, *flags, command=python(NOTIFIES, warm)) as one:
        # Long enough for the knock to be accepted, were that taken for proof.
        wait_until(lambda: one.workers("starting"), "the worker")
        looks = [one.workers("serving") for _ in range(50)]
        assert not any(looks)
        warm.touch()
        one.wait_serving()


def test_output_can_be_json(netns: int, tmp_path: Path) -> None:
    """Each line of worker and supervisor is an object with its time and who said it."""
    warm = tmp_path / "warm"
    warm.touch()
    with Instance(tmp_path, "--output", "json", command=python(NOTIFIES, warm)) as one:
        one.wait_serving()
        wait_until(lambda: '"line": "said"' in one.said(), "the worker's line")
        lines = [json.loads(line) for line in one.said().splitlines()]
    worker = next(line for line in lines if line["line"] == "said")
    assert (worker["who"], worker["generation"], worker["worker"]) == ("worker 1.1", 1, 1)
    assert {"segue", "worker 1.1"} == {line["who"] for line in lines}


@pytest.mark.program("openssl")
def test_what_is_asked_has_a_name_headers_and_tls(netns: int, tmp_path: Path) -> None:
    """All of them are needed here; a 302 is good because it was said to be."""
    command = python(SECURE, certificate(tmp_path, "some"))
    flags = ("--ready-http", "https:/h", "--ready-timeout", "2")
    with Instance(tmp_path, *flags, command=command) as one:
        assert one.wait() == 3
        assert "not ready after 2 s: GET https:/h was answered 400" in one.said()
    named = (*flags, "--ready-host", "shop.example", "--ready-header", "X-Key: s")
    with Instance(tmp_path, *named, command=command) as one:
        assert one.wait() == 3
        assert "not ready after 2 s: GET https:/h was answered 302" in one.said()
    with Instance(tmp_path, *named, "--ready-status", "200,302", command=command) as one:
        one.wait_serving()
        assert "SNI is shop.example" in one.said()


def test_a_stop_during_a_restart_stops_everything(netns: int, tmp_path: Path) -> None:
    """Old workers and newcomers end; who waited for the restart is told."""
    stuck = "[ $SEGUE_GENERATION = 2 ] && exec sleep 60"
    serve = " ".join(f"'{word}'" for word in (sys.executable, "-S", "-E"))
    command = ("sh", "-c", f"{stuck}; exec {serve} examples/asyncio_server.py")
    with Instance(tmp_path, command=command) as one:
        one.wait_serving()
        one.ask("restart", wait=False)
        wait_until(lambda: one.workers("starting"), "the newcomer")
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_cut_ends_accepted_connections(netns: int, tmp_path: Path) -> None:
    """--cut: a connection whose answer will never come does not keep the old worker."""
    with Instance(tmp_path, "--stop-timeout", "0.3") as one:
        one.wait_serving()
        clients = [
            socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE) for _ in range(3)
        ]
        wait_until(lambda: one.workers("serving")[0]["connections"] == 3, "connections")
        assert one.ask("restart", cut=True)["exit"] == 0
        one.wait_serving(2)
        assert one.status()["cut"] == 3
        for client in clients:
            client.close()


def test_a_worker_learns_that_it_drains(netns: int, tmp_path: Path) -> None:
    """Through the file in SEGUE_WORKER: not while it serves, then it does, and not again after a
    rollback.
    """
    told = tmp_path / "told"
    script = (
        "import sys, time\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import os, socket, threading\n"
        "from segue.worker import draining\n"
        "def serve():\n"
        "    listener = socket.socket(fileno=3)\n"
        "    while True: listener.accept()[0].close()\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "last = None\n"
        "while True:\n"
        "    if draining() != last:\n"
        "        last = draining()\n"
        "        with open(sys.argv[1], 'a') as f: f.write(os.environ['SEGUE_GENERATION'] +"
        " ('d' if last else 's') + ' ')\n"
        "    time.sleep(0.005)\n"
    )
    source = Path(__file__).parent.parent.parent / "src"
    with Instance(tmp_path, command=python(script, told, source)) as one:
        one.wait_serving()
        wait_until(lambda: told.exists() and told.read_text() == "1s ", "the first word")
        one.ask("restart", keep=60)
        wait_until(lambda: set(told.read_text().split()) == {"1s", "2s", "1d"}, "the second")
        one.ask("rollback")
        wait_until(lambda: told.read_text().split().count("1s") == 2, "the third")
