"""Control messages to a supervisor that serves: none ends it, changes it by half or makes it deaf.

Valid orders are among them, so it restarts and scales meanwhile.  Left out are a stop, which ends
it rightly, sizes above a few, which would only measure how fast processes start, and a re-exec,
which by itself waits for a new interpreter to check the settings.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.fuzz.found import Found, mutated
from bench.harness import ROOT, Segue, free_port, wait_until
from bench.usage import resident_bytes

COUNT = 100_000
SERVER = (sys.executable, "-S", "-E", str(ROOT / "examples" / "asyncio_server.py"))
_MOST_WORKERS = 4
_RESTARTS = 0.002  # of the messages; each starts processes
_LEFT_OPEN = 0.02  # clients that stay and say nothing more
_MOST_OPEN = 100
_SLOW_S = 5.0  # what a client waits for an answer
_GROWTH = 64 << 20  # bytes, of a supervisor's memory

_ORDERS: tuple[dict[str, Any], ...] = (
    {"do": "status"},
    {"do": "restart", "wait": False, "now": False, "cut": False, "canary": 10, "keep": 1.5},
    {"do": "restart", "wait": False, "replace": True},
    {"do": "restart", "wait": False, "step": 1},
    {"do": "rollback"},
    {"do": "promote"},
    {"do": "shift", "percent": 50},
    {"do": "weights", "weights": {"1": 0.5, "2": 2}},
    {"do": "scale", "workers": 2},
    {"do": "map", "map": "x", "set": {"7": 1}, "delete": [8]},
    {"do": "trace", "bind": "127.0.0.1:8080"},
    {"do": "rescue", "after": "50ms", "address": "127.0.0.1:8080"},
    {"do": "detach", "address": "127.0.0.1:8080"},
)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, 10**19, 10**400, float("inf"), float("nan"),
    "", "\u00b2", "1", "\x00", "\ud800", "x" * 5000, "9" * 5000, [], {}, [[]], {"do": "status"},
    "\x1b]0;x\x07", "127.0.0.1:8080",
)  # fmt: skip


def message(chance: random.Random) -> bytes:
    """One message; most are JSON, and some of them are a line."""
    match chance.randrange(20):
        case 0:
            return chance.choice((b"[", b'{"a":', b"1", b"\xff")) * chance.randrange(70_000) + b"\n"
        case 1:
            return chance.randbytes(chance.randrange(200)) + b"\n"
    order = dict(chance.choice(_ORDERS))
    if order["do"] == "restart" and chance.random() > _RESTARTS * len(_ORDERS):
        order["do"] = "status"
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        key = chance.choice((*order, "workers", "weights", "percent", "x"))
        if key == "weights" and chance.random() < 0.5:
            order[key] = {str(chance.choice(_VALUES)): chance.choice(_VALUES)}
        else:
            order[key] = chance.choice(_VALUES)
    line = json.dumps(order).encode() + b"\n"
    return line if chance.random() < 0.6 else mutated(chance, line)


def harmless(line: bytes) -> bool:
    """Not an order that rightly ends the supervisor, or fills the machine."""
    try:
        order = json.loads(line.partition(b"\n")[0])
        if order["do"] == "scale":
            return not 1 < order["workers"] <= 512 or order["workers"] <= _MOST_WORKERS
    except (ValueError, LookupError, TypeError, RecursionError):
        return True
    return str(order["do"]) not in {"stop", "reexec"}


def fuzz(count: int, first: int) -> Found:
    """Run a supervisor, and send it so many messages of this seed."""
    found, chance, port = Found(), random.Random(first), free_port()
    more = ("--crash-limit", "1000")
    with Segue([*SERVER], port, engine="auto", workers=1, more=more) as segue:
        path, pid = f"{segue.directory}/bench.sock", segue.process.pid
        before = resident_bytes(pid)
        with contextlib.closing(_Crowd()) as crowd:
            for number in range(count):
                line = message(chance)
                if not harmless(line):
                    found.counts["left out"] += 1
                    continue
                what = f"seed {first}, message {number} {line[:200]!r}"
                try:
                    with found.timed(what):
                        found.counts[_send(path, line, chance, crowd)] += 1
                except OSError as error:
                    found.finding(f"{what}: {type(error).__name__}: {error}")
                if segue.process.poll() is not None:
                    found.finding(f"{what}: the supervisor ended\n{segue.log()[-2000:]}")
                    return found
            silent = time.monotonic()
            _settle(segue, found, silent)
        if "bug in segue" in segue.log():
            lines = [line for line in segue.log().splitlines() if "bug in segue" in line]
            found.finding(f"seed {first}: {len(lines)} bugs are told, the first is {lines[0]}")
        grown = resident_bytes(pid) - before
        if grown > _GROWTH:
            found.finding(f"seed {first}: the supervisor grew by {grown:,} bytes")
    return found


def _settle(segue: Segue, found: Found, since: float) -> None:
    """With clients left that say nothing: whoever asks is answered, and it serves."""
    segue.status()
    found.slowest_s = max(found.slowest_s, time.monotonic() - since)
    wait_until(lambda: segue.status()["phase"] in {"serving", "canary"}, 60, "it serves")


class _Crowd:
    """Clients that stay, and say nothing more."""

    def __init__(self) -> None:
        self.clients: list[socket.socket] = []

    def add(self, client: socket.socket) -> None:
        """One more; the oldest leaves when they are too many."""
        self.clients.append(client)
        if len(self.clients) > _MOST_OPEN:
            self.clients.pop(0).close()

    def close(self) -> None:
        """All leave."""
        for client in self.clients:
            client.close()


def _send(path: str, line: bytes, chance: random.Random, crowd: _Crowd) -> str:
    """One client; what it was answered.  Raises OSError when it was not."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_SLOW_S)
    client.connect(path)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(line)
    if chance.random() < _LEFT_OPEN:
        crowd.add(client)
        return "left open"
    with client:
        if chance.random() < 0.02:
            return "gone at once"
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        return _told(list(_answers(client)))


def _answers(client: socket.socket) -> Iterator[dict[str, Any]]:
    with client.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
        for line in lines:
            answer = json.loads(line)
            yield answer
            if "exit" in answer or "trace" in answer or "error" in answer:
                return


def _told(answers: list[dict[str, Any]]) -> str:
    if not answers:
        return "hung up on"
    last = answers[-1]
    return f"exit {last['exit']}" if "exit" in last else "other"
