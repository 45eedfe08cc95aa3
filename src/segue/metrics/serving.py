"""Where metrics go: an HTTP server at an address or a Unix socket, or a file that is replaced.

Each answer is made when it is asked for.  This runs in a process of its own: what a scraper does,
and what the library needs, is no concern of the supervisor's.
"""

from __future__ import annotations

import http.server
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from segue.errors import KernelError
from segue.linux import openat
from segue.metrics.families import Family
from segue.supervisor.control.export_target import ExportTarget

EVERY = 15.0  # seconds between two writes of a file; Prometheus' usual interval is 15 to 60 s
_SILENCE = 5.0  # seconds that a client may take for its request
Collect = Callable[[], Iterable[Family]]


class Exporter(Protocol):
    """Something that goes on exporting until it is interrupted."""

    where: str  # for a sentence

    def serve(self) -> None:
        """Go on for ever."""

    def close(self) -> None:
        """Give back what it has."""


class _Collector(Collector):
    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Family]:
        return self._collect()


def registry(collect: Collect) -> CollectorRegistry:
    """What the library makes an answer of."""
    made = CollectorRegistry()
    made.register(_Collector(collect))
    return made


def exporter(target: ExportTarget, collect: Collect) -> Exporter:
    """Raises UsageError if the target cannot be used, KernelError if nobody can listen there."""
    made = registry(collect)
    if target.textfile:
        return _TextFile(target.path, made)
    address = target.address
    if address is None:
        return _http(_UnixServer, target.path, str(target), made)
    kind = _Server6 if address.family == socket.AF_INET6 else _Server
    return _http(kind, (address.host, address.port), f"http://{address}/metrics", made)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    registry: CollectorRegistry


class _Server6(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """By way of its directory, which must be ours: others could put a link there."""
        with openat.around(str(self.server_address)) as (here, name):
            here.bind(self.socket, name, 0o660)
        self.server_name, self.server_port = "unix", 0

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection; its peer has no name."""
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)

    def server_close(self) -> None:
        """Close the socket, and remove its name."""
        super().server_close()
        openat.remove(str(self.server_address))


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _SILENCE
    server: _Server

    def do_GET(self) -> None:
        """The metrics, in the format that the client prefers."""
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404, "metrics are at /metrics")
            return
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is nothing to tell."""


@dataclass(slots=True)
class _Http:
    where: str
    server: _Server

    def serve(self) -> None:
        self.server.serve_forever()

    def close(self) -> None:
        self.server.server_close()


def _http(kind: type[_Server], at: Any, where: str, registry: CollectorRegistry) -> Exporter:
    try:
        server = kind(at, _Handler)
    except OSError as error:
        raise KernelError("bind", error.errno or 0, f"listening at {where}") from error
    server.registry = registry
    return _Http(where, server)


@dataclass(slots=True)
class _TextFile:
    """For node_exporter's textfile collector: replaced as a whole, so that it is never half."""

    where: str
    registry: CollectorRegistry

    def serve(self) -> None:
        while True:
            self.write()
            time.sleep(EVERY)

    def write(self) -> None:
        """Once.  Raises UsageError if others may write into the directory, OSError."""
        with openat.around(self.where) as (here, name):
            made = here.file(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with open(made, "wb") as file:
                file.write(generate_latest(self.registry))
            here.rename(f"{name}.new", name)

    def close(self) -> None:
        """Values that nobody renews would be taken for those of now."""
        openat.remove(self.where)
