"""From the order to restart until nobody is served by the old version: a new TLS certificate."""

from __future__ import annotations

import hashlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import proxies
from bench.case import Case, Sample, Tally
from bench.harness import Hup, Load, Segue, free_port, program, steady
from bench.rounds import seen, take_turns
from bench.servers import ASGI, WSGI
from bench.systems import LOCAL
from bench.table import LOAD, Column, Row
from bench.ways import Restartable

AFTER_S = 1.5  # how long after the restart is over somebody may still see the old one


def make_pair(where: Path) -> None:
    """A new self-signed certificate and its key take the place of those that are there."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", str(where / "new.key")),
            *("-out", str(where / "new.cert")),
        ],
        check=True,
        capture_output=True,
    )
    # Both at once as far as that goes: some servers read them for every connection.
    (where / "new.key").rename(where / "key.pem")
    (where / "new.cert").rename(where / "cert.pem")


def sight(where: Path) -> str:
    """What the probe calls the certificate that lies there."""
    raw = ssl.PEM_cert_to_DER_cert((where / "cert.pem").read_text())
    return hashlib.sha256(raw).hexdigest()[:32]


def _commands() -> dict[str, tuple[str, ...]]:
    """Each Python server's own command; {at} is the directory with the pair."""
    pem = ("{at}/cert.pem", "{at}/key.pem")
    ssl_files = ("--ssl-certfile", pem[0], "--ssl-keyfile", pem[1])
    files = ("--certfile", pem[0], "--keyfile", pem[1])
    granian_files = ("--ssl-certificate", pem[0], "--ssl-keyfile", pem[1])
    bind = f"{LOCAL}:{{port}}"
    return {
        "gunicorn gthread, HUP": (
            *(program("gunicorn"), "-w", "2", "--threads", "64", "--no-control-socket"),
            *("-b", bind, *files, WSGI),
        ),
        "uvicorn --workers 2, HUP": (
            *(program("uvicorn"), "--workers", "2", "--port", "{port}", "--no-access-log"),
            *("--log-level", "warning", *ssl_files, ASGI),
        ),
        "hypercorn, HUP": (program("hypercorn"), "-w", "2", "-b", bind, *files, ASGI),
        "granian, HUP": (
            *(program("granian"), "--host", LOCAL, "--port", "{port}", "--interface", "asgi"),
            *("--workers", "2", "--respawn-interval", "0.5", *granian_files, ASGI),
        ),
    }


Made = Callable[[int, Path], tuple[Restartable, Callable[[], float]]]


@dataclass(frozen=True, slots=True)
class Way:
    """How a server comes to its new certificate."""

    name: str
    made: Made
    claims_none: bool


def compared() -> dict[str, Made]:
    """How each is started with the pair in a directory, and restarted."""
    made: dict[str, Made] = {}
    for name, command in _commands().items():

        def by_hup(
            port: int, at: Path, command: tuple[str, ...] = command
        ) -> tuple[Restartable, Callable[[], float]]:
            argv = [word.replace("{at}", str(at)).replace("{port}", str(port)) for word in command]
            server = Hup(argv, port, tls=True)
            return server, server.restart

        made[name] = by_hup

    def nginx(port: int, at: Path) -> tuple[Restartable, Callable[[], float]]:
        def write(_: int) -> None:
            proxies.nginx(at, LOCAL, port, workers=2, listen="ssl")

        one = proxies.Reloaded(proxies.nginx_argv(at), port, at, write, host=LOCAL, tls=True)
        return one, one.restart

    def haproxy(port: int, at: Path) -> tuple[Restartable, Callable[[], float]]:
        def write(_: int) -> None:
            proxies.haproxy(at, f"{LOCAL}:{port}", tls=True)

        argv, by = proxies.haproxy_argv(at, "-W"), signal.SIGUSR2
        one = proxies.Reloaded(argv, port, at, write, host=LOCAL, tls=True, by=by)
        return one, one.restart

    def uvicorn(port: int, at: Path) -> Segue:
        pair = ("--ssl-certfile", f"{at}/cert.pem", "--ssl-keyfile", f"{at}/key.pem")
        quiet = ("--no-access-log", "--log-level", "warning")
        argv = [program("uvicorn"), ASGI, *quiet, *pair, "--fd", "{fd}"]
        return Segue(argv, port, engine="migrate", tls=True)

    def segue(port: int, at: Path) -> tuple[Restartable, Callable[[], float]]:
        one = uvicorn(port, at)
        return one, one.restart

    def segue_now(port: int, at: Path) -> tuple[Restartable, Callable[[], float]]:
        one = uvicorn(port, at)
        return one, lambda: one.order("restart", now=True)

    def segue_nginx(port: int, at: Path) -> tuple[Restartable, Callable[[], float]]:
        proxies.nginx(at, LOCAL, port, workers=1, listen="reuseport ssl")
        more = ("--bind-by", "worker", "--stop-signal", "QUIT")
        argv = proxies.nginx_argv(at)
        one = proxies.SegueOver(argv, port, at, host=LOCAL, more=more, tls=True)
        return one, one.restart

    return made | {
        "nginx reload, one shared listener": nginx,
        "HAProxy reload, master and worker": haproxy,
        "segue run, uvicorn": segue,
        "segue run, uvicorn, restart --now": segue_now,
        "segue run, nginx": segue_nginx,
    }


def measure(*, repetitions: int = 3, rate: int = 200) -> list[Row]:
    """The pair is replaced while the server runs; the restart is what makes it be read."""

    def once(way: Way, tally: Tally) -> Sample:
        at = Path(tempfile.mkdtemp(prefix="segue-bench-"))
        try:
            make_pair(at)
            old = sight(at)
            server, restart = way.made(free_port(), at)
            shown = server.shown.replace(str(at), ".")
            tally.expect(way.name, command=shown, claims_none=way.claims_none)
            with server:
                load = Load(server.port, "--rate", str(rate), "--tls")
                try:
                    with steady(1.0):
                        pass
                    make_pair(at)
                    new = sight(at)
                    ordered = time.monotonic()
                    restart()
                    with steady(AFTER_S):
                        pass
                finally:
                    result = load.stop()
        finally:
            shutil.rmtree(at, ignore_errors=True)
        if not {old, new} <= result.certificate_times.keys():
            raise RuntimeError("the probe did not see both certificates")
        offset = result.began_monotonic - ordered
        return seen(
            result,
            first_new_s=result.certificate_times[new][0] + offset,
            last_old_s=result.certificate_times[old][1] + offset,
        )

    named = [Way(name, made, name.startswith("segue run")) for name, made in compared().items()]
    return take_turns(named, repetitions, once)


CASE = Case(
    "certificate",
    "Time until nothing is served by the old version",
    "200 new TLS connections a second, while certificate and key are replaced and the server is"
    " restarted. *Last old* is when the last handshake was over that presented the old"
    " certificate, *first new* when the first one was with the new, both after the order.",
    measure,
    (
        Column("first_new_s", "first new s", digits=2),
        Column("last_old_s", "last old s", digits=2),
        *LOAD,
    ),
    lambda _: ["gunicorn reads certificate and key for every connection, restarted or not."],
)
