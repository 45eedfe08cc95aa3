"""A service as people deploy it: releases behind a link, settings in files, a log that is rotated.

The application is ASGI, over TLS.  A release is a directory with the application and what makes it
that release: its version, how long it takes to start, how much it holds, whether it starts at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bench.cases.certificate import make_pair
from bench.harness import Segue, program
from segue.linux import cgroup

_APPLICATION = """
import os, time
VERSION, STARTS_S, HOLDS_MIB, BROKEN = {version!r}, {starts_s!r}, {holds_mib!r}, {broken!r}
if BROKEN:
    raise ImportError("no module named settings_of_tomorrow")
time.sleep(STARTS_S)
held = [bytearray(b"x") * (HOLDS_MIB << 20)]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/leak":
        held.append(bytearray(b"x") * (20 << 20))
    if scope["path"] == "/slow":
        import asyncio
        await asyncio.sleep(2.0)
    body = f"{{VERSION}} {{os.environ.get('COLOUR', '-')}}".encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""
_MIB = 1 << 20


class Deployed(Segue):
    """``segue run`` of uvicorn in ``current``, the link to the release of the moment."""

    def __init__(self, at: Path, port: int, *more: str) -> None:
        self.at = at
        self.log_file = at / "log"
        self._mark = 0
        self.set_colour("red")
        make_pair(at)
        self.deploy("one")
        tls = ("--ssl-certfile", str(at / "cert.pem"), "--ssl-keyfile", str(at / "key.pem"))
        quiet = ("--no-access-log", "--log-level", "warning")
        super().__init__(
            [program("uvicorn"), "app:app", "--fd", "{fd}", *tls, *quiet],
            port,
            engine="migrate",
            more=(
                *("--chdir", str(at / "current"), "--env-file", str(at / "env")),
                *("--output-file", str(self.log_file), *more),
            ),
            tls=True,
        )

    def deploy(
        self,
        version: str,
        *,
        starts_s: float = 0.0,
        holds_mib: int = 0,
        broken: bool = False,
    ) -> None:
        """Lay the release down, and switch the link to it."""
        release = self.at / version
        release.mkdir(exist_ok=True)
        text = _APPLICATION.format(
            version=version, starts_s=starts_s, holds_mib=holds_mib, broken=broken
        )
        (release / "app.py").write_text(text)
        new = self.at / "new"
        new.symlink_to(version)
        new.rename(self.at / "current")

    def set_colour(self, colour: str) -> None:
        """What the environment file says from now on."""
        (self.at / "env").write_text(f"COLOUR={colour}\n")

    def _connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection((self.host, self.port), timeout=8))

    def certificate(self) -> str:
        """What the probe would call the one that a new connection is shown."""
        with self._connect() as one:
            shown = one.getpeercert(binary_form=True)
        return hashlib.sha256(shown or b"").hexdigest()[:32]

    def asked(self, path: str = "/") -> str:
        """The body of one answer; "" when there was none."""
        found = b""
        with contextlib.suppress(OSError), self._connect() as one:
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while data := one.recv(4096):
                found += data
        return found.partition(b"\r\n\r\n")[2].decode()

    def logged(self) -> str:
        """What the log file has got since the last call."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        if len(text) < self._mark:
            self._mark = 0  # it was rotated
        found, self._mark = text[self._mark :], len(text)
        return found


class InFlight:
    """Slow requests that are under way, each on a connection of its own."""

    def __init__(self, server: Deployed, count: int) -> None:
        self._answers: list[str] = []
        self._asking = [
            threading.Thread(target=lambda: self._answers.append(server.asked("/slow")))
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        for one in self._asking:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._asking:
            one.join()

    @property
    def unanswered(self) -> int:
        """How many have got no whole answer, once they are over."""
        return len(self._asking) - sum(bool(one) for one in self._answers)


@contextlib.contextmanager
def limited_memory(mebibytes: int) -> Iterator[Path]:
    """A cgroup whose members may have so much together.  Raises RuntimeError where none can be."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = file.read()
    old = cgroup.find(mounts, "1:memory:/\n", "memory")
    new = cgroup.find(mounts, "0::/\n")
    if old is not None:
        parent, file_name = Path(old), "memory.limit_in_bytes"
    elif new is not None and "memory" in Path(new, "cgroup.subtree_control").read_text():
        parent, file_name = Path(new), "memory.max"
    else:
        raise RuntimeError("no cgroup limits memory here")
    made = parent / f"segue-bench-{os.getpid()}"
    made.mkdir()
    try:
        (made / file_name).write_text(str(mebibytes * _MIB))
        for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
            with contextlib.suppress(OSError):  # without swap, or without its accounting
                (made / swap).write_text(str(mebibytes * _MIB if "memsw" in swap else 0))
        yield made
    finally:
        made.rmdir()
