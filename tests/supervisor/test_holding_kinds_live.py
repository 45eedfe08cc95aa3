"""A crash with connections that nobody may carry, and with servers that fork workers themselves."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h2.connection
import h2.events
import pytest
from tests.probe.servers import certificate
from tests.supervisor.instance import ADDRESS, Instance
from tests.supervisor.test_holding_live import (
    BIN,
    CRASH,
    HTTP,
    LONG,
    MARKING,
    PLAIN,
    UVICORN,
    WHERE,
    Client,
    clients,
    holds,
    kill,
    prepared,
)
from tests.waiting import wait_until

from segue.observe.snapshot import Observer, Part
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader
from segue.probe.websocket import FIELDS

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

HYPERCORN = (str(BIN / "hypercorn"), "--bind", "fd://{fd}", "--keep-alive", "60")
GRACE_MS = 500  # of HTTP
RULES = pytest.mark.parametrize(
    ("flags", "app"), [(CRASH, MARKING), (HTTP, PLAIN)], ids=["app", "http"]
)


class Secure(Client):
    """With TLS."""

    def __init__(self) -> None:
        super().__init__()
        context = ssl._create_unverified_context()
        self.connection = context.wrap_socket(self.connection)


class WebSocket(Client):
    """Open, and idle."""

    def ask(self) -> None:
        """Opened, it says what is not answered."""
        if not self.pid:
            fields = (*FIELDS, ("Connection", "Upgrade"))
            request = http(ADDRESS, "/", keep_alive=True, fields=fields).request
            self.connection.sendall(request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.connection.recv(1)
            found = ResponseReader()
            found.feed(head)
            self.pid = int(found.field(b"x-pid"))
        self.connection.sendall(b"\x81\x85" + bytes(4) + b"hello")


class Http2(Client):
    """HTTP/2 with prior knowledge."""

    def __init__(self) -> None:
        super().__init__()
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()

    def ask(self) -> None:
        """One request, and its answer."""
        stream = self.h2.get_next_available_stream_id()
        names = {":method": "GET", ":scheme": "http", ":authority": "x", ":path": "/"}
        self.h2.send_headers(stream, list(names.items()), end_stream=True)
        ended = False
        while not ended:
            self.connection.sendall(self.h2.data_to_send())
            data = self.connection.recv(4096)
            assert data, "closed by the server"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.pid = int(dict(event.headers)[b"x-pid"])
                ended |= isinstance(event, h2.events.StreamEnded)
        self.connection.sendall(self.h2.data_to_send())


@contextmanager
def others(kind: Callable[[], Client], count: int) -> Iterator[list[Client]]:
    """Such clients, each with an answer."""
    made = [kind() for _ in range(count)]
    try:
        for one in made:
            one.ask()
        yield made
    finally:
        for one in made:
            one.connection.close()


def wait_idle(those: list[Client]) -> None:
    """For longer than the grace: to the kernel they look as if they waited."""
    names = {one.connection.getsockname()[:2] for one in those}

    def idle() -> bool:
        with Observer() as observer:
            group = observer.snapshot(WHERE, Part.CONNECTIONS)
        mine = [one for one in group.connections if tuple(one.peer[:2]) in names]
        moved = [min(one.received_ms, one.sent_ms) for one in mine]
        return len(moved) == len(names) and min(moved) > 2 * GRACE_MS

    wait_until(idle, "all are idle")


def ended(those: list[Client]) -> None:
    """Each sees an end of its connection: nobody waits for what does not come."""
    for one in those:
        one.last()


@RULES
@pytest.mark.parametrize("asks", [False, True], ids=["idle", "asks"])
@pytest.mark.parametrize("kind", [WebSocket, Http2])
def test_another_protocol_ends_with_its_worker(
    netns: int,
    tmp_path: Path,
    flags: tuple[str, ...],
    app: str,
    kind: Callable[[], Client],
    *,
    asks: bool,
) -> None:
    """And what is HTTP/1 beside it goes on."""
    command = (*HYPERCORN, app)
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        prepared(one)
        with clients(5) as kept, others(kind, 3) as made:
            holds(one, 8)
            wait_idle([*kept, *made])
            (victim,) = {each.pid for each in (*kept, *made)}
            kill(victim)
            for each in made if asks else ():
                each.connection.sendall(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8))
            ended(made)
            for each in kept:
                each.ask()
            assert victim not in {each.pid for each in kept}
        status = one.status()
        assert status["held_carried"] == 5, status
        assert sum(status["held_ended"].values()) == 3, status


@RULES
@pytest.mark.program("openssl")
@pytest.mark.parametrize("asks", [False, True], ids=["idle", "asks"])
def test_tls_ends_with_its_worker(
    netns: int, tmp_path: Path, flags: tuple[str, ...], app: str, *, asks: bool
) -> None:
    """Its keys are gone.  Who had only connected is as new."""
    file = str(certificate(tmp_path, "own"))
    secure = ("--ssl-certfile", file, "--ssl-keyfile", file)
    with Instance(tmp_path, *flags, command=(*UVICORN, *LONG, *secure, app)) as one:
        one.wait_serving()
        with others(Secure, 1):
            pass
        wait_until(lambda: "will be carried" in one.said(), "what carries is there")
        with others(Secure, 3) as made:
            holds(one, 3)
            wait_idle(made)
            kill(made[0].pid)
            for each in made if asks else ():
                each.connection.sendall(http(ADDRESS, "/", keep_alive=True).request)
            for each in made:
                with pytest.raises((OSError, AssertionError)):
                    each.ask()
        one.wait_serving()
        with others(Secure, 1) as (last,):
            assert last.pid != made[0].pid
        status = one.status()
        assert status["held_carried"] == 0, status
        assert sum(status["held_ended"].values()) == 3, status


def forking(tmp_path: Path, server: str) -> tuple[str, ...]:
    """A server with workers of its own making, on one listener."""
    if server == "gunicorn":
        more = ("--no-control-socket", "--log-level", "warning", "--workers", "2")
        threads = ("--threads", "8", "--keep-alive", "60")
        app = "examples.draining:wsgi"
        return (str(BIN / "gunicorn"), "--bind", "fd://{fd}", *more, *threads, app)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 2; pid {tmp_path}/pid; error_log stderr error;"
        "events { worker_connections 512; }"
        f"http {{ access_log off; keepalive_timeout 60; server {{ listen {ADDRESS} reuseport;"
        " add_header X-Pid $pid; location / { return 200 hello; } } }"
    )
    return ("nginx", "-c", str(config))


@pytest.mark.parametrize(
    "server", [pytest.param("nginx", marks=pytest.mark.program("nginx")), "gunicorn"]
)
def test_a_worker_of_the_servers_own_crashes(netns: int, tmp_path: Path, server: str) -> None:
    """Its master starts another; what it had goes to whoever accepts."""
    binds = ("--bind-by", "worker", "--stop-signal", "QUIT")
    flags = CRASH if server == "gunicorn" else (*HTTP, *binds)
    with Instance(tmp_path, *flags, command=forking(tmp_path, server)) as one:
        one.wait_serving()
        prepared(one)
        with clients(20) as made:
            holds(one, 20)
            wait_idle(made)
            victim = made[0].pid
            (serving,) = one.workers("serving")
            assert victim != serving["pid"], "one that its master has forked"
            kill(victim)
            for each in made:
                each.ask()
            assert victim not in {each.pid for each in made}
            assert [each["pid"] for each in one.workers("serving")] == [serving["pid"]]
        status = one.status()
        assert status["held_ended"] == {}, one.said()
        assert status["held_carried"] >= 1, one.said()


def test_what_has_no_place_is_not_held(netns: int, tmp_path: Path) -> None:
    """It is said, its worker's end is its end, and the supervisor goes on."""
    limit = ("prlimit", "--nofile=160:160")
    with Instance(tmp_path, *CRASH, command=(*UVICORN, *LONG, MARKING), before=limit) as one:
        one.wait_serving()
        prepared(one)
        with clients(100) as made:
            holds(one, 80)
            wait_until(lambda: one.status()["held_reason"], "it is said")
            said = one.status()["held_reason"]
            assert said.startswith("20 connection(s) are not held: no more than 80 descriptors"), (
                said
            )
            kill(made[0].pid)
            answered = 0
            for each in made:
                with suppress(AssertionError, OSError):
                    each.ask()
                    answered += 1
            assert answered == 80, one.said()
            one.wait_serving()
            assert one.ask("restart")["exit"] == 0, one.said()
            one.wait_serving(2)
        assert "Too many open files" not in one.said()
