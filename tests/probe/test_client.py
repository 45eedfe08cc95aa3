"""The probe tells the truth: what it counts is what the server did, to the connection.

The server (faults.py) runs in a process of its own, inside a network namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.probe.servers import misbehaving
from tests.waiting import PATIENCE

from segue.address import Address
from segue.errors import UsageError
from segue.probe.client import Client
from segue.probe.exchange import Exchange, http, raw
from segue.probe.fates import Fate
from segue.probe.result import Result
from segue.probe.schedule import ClosedLoop, KeepAlive, OpenLoop, Pace
from segue.probe.settings import Settings

PORT = 8080
TARGET = Address("127.0.0.1", PORT)
ONCE = http("127.0.0.1:8080")
KEPT = http("127.0.0.1:8080", keep_alive=True)

pytestmark = pytest.mark.root

EXPECTED = {
    "answer": Fate.OK,
    "busy": Fate.OK,
    "chunked": Fate.OK,
    "until_close": Fate.OK,
    "eof": Fate.EOF,
    "reset": Fate.RESET_AFTER,
    "half": Fate.PARTIAL,
    "half_reset": Fate.PARTIAL,
    "half_chunk": Fate.PARTIAL,
    "hang": Fate.RESPONSE_TIMEOUT,
    "stall": Fate.RESPONSE_TIMEOUT,
    "nonsense": Fate.MALFORMED,
    "reset_at_once": Fate.RESET_BEFORE,
    "close_at_once": Fate.EOF,
}
SLOW = ["hang", "stall"]


@contextmanager
def answering(enough: int, then: Callable[[], None]) -> Iterator[list[None]]:
    """A server that answers everything; after ``enough`` answers it does ``then``, and goes on.

    The yielded list has as many items as answers were given; it is final after the block.
    """
    answers: list[None] = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            with sock:
                if not sock.recv(4096):
                    return
                sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                answers.append(None)
            if len(answers) == enough:
                then()

    with socket.create_server(("127.0.0.1", PORT), backlog=500) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield answers
        finally:
            # A connection without a request tells it to stop.
            socket.create_connection(("127.0.0.1", PORT)).close()
            thread.join(PATIENCE)


def run(pace: Pace, exchange: Exchange = ONCE, **settings: Any) -> Result:
    return Client(Settings(target=TARGET, pace=pace, exchange=exchange, **settings)).run()


def fates(did: dict[str, int]) -> Counter[Fate]:
    """What the probe should have counted."""
    told: Counter[Fate] = Counter()
    for fault, fate in EXPECTED.items():
        told[fate] += did.get(fault, 0)
    return +told


@pytest.mark.slow
def test_every_fate_is_told_to_the_connection_at_5000_a_second(netns: int) -> None:
    """Twelve kinds of behaviour, 10,000 connections: the two counts are the same."""
    quick = [name for name in EXPECTED if not name.endswith("at_once") and name not in SLOW]
    with misbehaving(*quick * 6, *SLOW) as did:
        result = run(OpenLoop(5000), count=10_000, response_timeout_s=2, max_open=1000)
    assert did["accepted"] == result.total == 10_000
    assert Counter(result.counts) == fates(did)
    assert result.statuses == {200: did["answer"] + did["chunked"] + did["until_close"],
                               503: did["busy"]}  # fmt: skip
    assert set(result.examples) == set(result.counts) - {Fate.OK}


def test_what_happens_before_the_request_is_told_apart(netns: int) -> None:
    """A connection that waits before it sends sees what the server does to it meanwhile."""
    with misbehaving("reset_at_once", "close_at_once", "answer") as did:
        result = run(OpenLoop(1000), count=300, pause_s=1)
    assert did["accepted"] == 300
    assert Counter(result.counts) == fates(did)
    assert result.count(Fate.RESET_BEFORE) == 100


def test_a_reset_without_a_pause_is_before_or_after(netns: int) -> None:
    """Who is first, the request or the reset, is a race; that there was a reset is none."""
    with misbehaving("reset_at_once") as did:
        result = run(ClosedLoop(8), count=500)
    before, after = result.count(Fate.RESET_BEFORE), result.count(Fate.RESET_AFTER)
    assert before + after == did["reset_at_once"] == 500


def test_nobody_listens(netns: int) -> None:
    """Every SYN is answered by a reset, and a closed loop pauses after each."""
    result = run(ClosedLoop(4, pause_s=0.05), duration_s=0.5)
    assert result.counts == {Fate.REFUSED: result.total}
    assert 4 <= result.total <= 4 * (0.5 / 0.05 + 1)
    assert "ECONNREFUSED" in result.examples[Fate.REFUSED]
    assert result.gap_ms == pytest.approx(500, rel=0.1)
    assert result.seconds == pytest.approx(0.5, rel=0.1)


def test_a_listener_closes_over_its_accept_queue(netns: int) -> None:
    """The loss that Segue exists to prevent: connected, request sent, and reset."""
    listener = socket.create_server(("127.0.0.1", PORT), backlog=50)
    client = Client(Settings(target=TARGET, pace=OpenLoop(5000), exchange=ONCE, count=40))
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(client.run()))
    thread.start()
    # The queue's own count is in tcp_info of the listener: tcpi_unacked is its depth.
    while listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24] < 40:
        assert thread.is_alive()
    listener.close()
    thread.join(PATIENCE)
    assert found[0].counts == {Fate.RESET_AFTER: 40}


def test_a_full_accept_queue_answers_no_syn(netns: int) -> None:
    """Backlog 0 holds one child; what comes then gets no SYN-ACK within the limit."""
    with socket.create_server(("127.0.0.1", PORT), backlog=0):
        result = run(OpenLoop(200), count=20, connect_timeout_s=0.4, response_timeout_s=0.4)
    assert result.count(Fate.RESPONSE_TIMEOUT) == 1
    assert result.count(Fate.CONNECT_TIMEOUT) == 19


def test_ports_that_run_out_are_said_and_not_blamed_on_the_server(netns: int) -> None:
    """Ten ports from one source: ten connections hang on them, the other ten are not made."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40009")
    with misbehaving("hang"):
        result = run(OpenLoop(1000), count=20, sources=("127.0.0.1",), response_timeout_s=0.5)
    assert result.counts == {Fate.PORTS_EXHAUSTED: 10, Fate.RESPONSE_TIMEOUT: 10}
    assert result.lost == 10


def test_descriptors_that_run_out_are_said_too(netns: int) -> None:
    """Forty descriptors cannot hold sixty connections, and that is not the server's doing."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "from segue.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "probe", f"http://{TARGET}/", "--rate", "1000"]
    command += ["--json", "--no-check"]
    with misbehaving("hang") as did:
        done = subprocess.run(
            [*command, "--count", "60", "--response-timeout", "1"], capture_output=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["counts"] == {"response_timeout": did["hang"], "local_error": 60 - did["hang"]}
    assert found["lost"] == did["hang"] < 40
    assert "EMFILE" in found["examples"]["local_error"]


def test_more_connections_than_one_source_has_ports(netns: int) -> None:
    """Spread over sources and closed by the server first, 2,000 connections need few ports."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40009")
    Path("/proc/sys/net/ipv4/tcp_tw_reuse").write_text("0")
    with misbehaving("answer"):
        result = run(OpenLoop(2000), count=2000, max_open=100)
    assert result.counts == {Fate.OK: 2000}


def test_never_more_open_than_asked(netns: int) -> None:
    """A server that hangs cannot make the probe open more; those that wait are counted."""
    with misbehaving("hang"):
        result = run(OpenLoop(1000), count=60, max_open=20, response_timeout_s=0.5)
    assert result.counts == {Fate.RESPONSE_TIMEOUT: 60}
    assert result.most_open == 20
    assert result.held_back == 40


def test_a_stall_is_in_the_latencies_of_all_that_were_due(netns: int) -> None:
    """Open loop, no coordinated omission: held back behind a stall, they count from their time."""
    with misbehaving("hang", "answer"):
        result = run(OpenLoop(100), count=2, max_open=1, response_timeout_s=0.4)
    assert result.counts == {Fate.RESPONSE_TIMEOUT: 1, Fate.OK: 1}
    assert result.p50_ms is not None
    assert result.p50_ms >= 380


def test_what_cannot_begin_in_time_is_left_out_and_counted(netns: int) -> None:
    """A run ends soon after its duration, however far behind it is."""
    with misbehaving("hang"):
        result = run(OpenLoop(100), duration_s=0.3, max_open=1, response_timeout_s=0.5)
    assert result.total + result.unbegun == 30
    assert result.unbegun >= 25


def test_kept_connections_are_kept(netns: int) -> None:
    """Ten connections serve all requests; none is closed or lost."""
    with misbehaving("kept") as did:
        result = run(KeepAlive(10, 0.02), KEPT, count=200)
    assert result.counts == {Fate.OK: 200}
    assert (did["accepted"], did["kept"]) == (10, 200)


def test_an_announced_close_is_honoured(netns: int) -> None:
    """After Connection: close the next request goes on a new connection, and nothing is lost."""
    with misbehaving("kept", "kept", "kept_polite") as did:
        result = run(KeepAlive(5, 0.02), KEPT, count=150)
    assert result.counts == {Fate.OK: 150}
    assert did["kept_polite"] == 50
    assert 45 <= did["accepted"] <= 55


def test_an_idle_close_is_not_a_loss(netns: int) -> None:
    """The server closes after its answer without a word: the next request finds out in time."""
    with misbehaving("kept_close") as did:
        result = run(KeepAlive(5, 0.25), KEPT, count=25)
    assert did["accepted"] == did["kept_close"] == 25
    assert result.lost == 0
    assert result.total == result.count(Fate.OK) == 25
    # The last close of each connection may come when the run is over.
    assert 20 <= result.count(Fate.IDLE_CLOSED) <= 25


def test_a_request_on_a_kept_connection_without_an_answer_is_lost(netns: int) -> None:
    """The server read it and closed: however idle the connection had been, that is a loss."""
    with misbehaving("kept", "kept", "kept", "kept_eof", "kept", "kept_reset") as did:
        result = run(KeepAlive(3, 0.02), KEPT, count=120)
    assert (did["kept_eof"], did["kept_reset"]) == (20, 20)
    assert result.counts == {Fate.OK: 80, Fate.EOF: 20, Fate.RESET_AFTER: 20}
    assert result.lost_reused >= 20


def test_any_tcp_service(netns: int) -> None:
    """Connect, wait for a banner, send, expect: no HTTP needed."""
    with misbehaving("nonsense"):
        found = run(ClosedLoop(2), raw(b"HELO\r\n\r\n", b"ESMTP"), count=20)
        closed = run(ClosedLoop(2), raw(b"HELO\r\n\r\n", None), count=20)
        connected = run(ClosedLoop(2), raw(), count=20)
        wrong = run(ClosedLoop(2), raw(b"HELO\r\n\r\n", b"SSH-2.0"), count=20)
    for result in (found, closed, connected):
        assert result.counts == {Fate.OK: 20}
    assert wrong.counts == {Fate.PARTIAL: 20}


def test_the_versions_that_answered_are_counted(netns: int) -> None:
    """By the value of a header field; an answer without it counts under the empty name."""
    with misbehaving("answer", "chunked"):
        result = run(ClosedLoop(1), count=10, version_field="Content-Length", keep_events=True)
    assert result.versions == {"50": 5, "": 5}
    assert len(result.events) == 10
    assert {event.fate for event in result.events} == {Fate.OK}


def test_ipv6_is_probed_the_same(netns: int) -> None:
    """The target's family decides; a link-local target needs an interface that is here."""
    with socket.create_server(("::1", PORT), family=socket.AF_INET6, backlog=50):
        settings = Settings(
            target=Address("::1", PORT), pace=OpenLoop(1000), exchange=raw(), count=20
        )
        assert Client(settings).run().counts == {Fate.OK: 20}
    with pytest.raises(UsageError, match="no interface none7"):
        Client(Settings(target=Address("fe80::1", 1, "none7"), pace=OpenLoop(1), exchange=raw()))


def test_the_end_of_a_pipe_ends_the_run(netns: int) -> None:
    """A run without limits stops when whoever started it goes away; all begun is accounted for."""
    reading, writing = os.pipe()
    client = Client(Settings(target=TARGET, pace=ClosedLoop(2), exchange=ONCE))
    with answering(50, lambda: os.close(writing)) as answers:
        result = client.run(until_closed=reading)
    os.close(reading)
    assert result.counts == {Fate.OK: len(answers)}
    assert len(answers) >= 50
    assert result.unbegun == 0


def test_a_run_can_be_stopped_from_another_thread(netns: int) -> None:
    """As a signal handler does it: what is under way is waited for."""
    client = Client(Settings(target=TARGET, pace=OpenLoop(500), exchange=ONCE))
    with answering(50, client.stop) as answers:
        result = client.run()
    assert result.counts == {Fate.OK: len(answers)}


def test_a_file_cannot_say_when_it_is_closed(netns: int) -> None:
    """/dev/null as stdin would end the run before it began: refused, with what to give."""
    with open("/dev/null", "rb") as file, pytest.raises(UsageError, match="must be a pipe"):
        Client(Settings(target=TARGET, pace=ClosedLoop(2), exchange=ONCE)).run(
            until_closed=file.fileno()
        )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"count": 0}, "a count must be at least 1"),
        ({"pause_s": -1}, "a pause must be 0 or more"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    """Before anything is opened."""
    with pytest.raises(UsageError, match=sentence):
        Settings(target=TARGET, pace=OpenLoop(1), exchange=ONCE, **wrong)


def test_a_path_begins_with_a_slash() -> None:
    """Another is no path."""
    with pytest.raises(UsageError, match="begin with /"):
        http("127.0.0.1", "x")
