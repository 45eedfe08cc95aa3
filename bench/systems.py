"""The systems compared: each a server and a way of restarting it, by the name a table has for it.

Peers run as their own documentation says, two workers each; Segue runs the same programs.  Losses
are only claimed not to be where Segue's engine keeps what a listener holds, and the server itself
finishes what it has accepted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench import proxies
from bench.grouped import Grouped
from bench.harness import Hup, Segue, program
from bench.servers import ASGI, WSGI, kinds
from bench.ways import Overlapping, Restartable, StopStart

LOCAL = "127.0.0.1"
Start = Callable[[str, int], Restartable]


@dataclass(frozen=True, slots=True)
class System:
    """``start(host, port)`` starts it; entering what it returns waits until it answers."""

    name: str
    start: Start
    claims_none: bool = False


def by_hup(kind: str, *more: str) -> Start:
    """A Python server of ``bench.servers``, its own command, SIGHUP to its parent."""

    def start(host: str, port: int) -> Restartable:
        own = (*kinds()[kind].own, *more)
        return Hup(
            [word.replace("{host}", host).replace("{port}", str(port)) for word in own],
            port,
            host=host,
        )

    return start


def under_segue(
    kind: str,
    engine: str = "migrate",
    *more: str,
    draining: bool = False,
    words: tuple[str, ...] = (),
) -> Start:
    """The same server's command, with some words, under ``segue run`` with ``more`` options.

    ``draining`` with the middleware.
    """

    def start(host: str, port: int) -> Restartable:
        one = kinds()[kind]
        return Segue(
            [*(one.draining if draining else one.command), *words],
            port,
            engine=engine,
            workers=one.workers,
            more=(*one.more, *more),
            host=host,
        )

    return start


def in_a_group(kind: str, application: str = ASGI) -> Start:
    """The same server's command under ``segue run`` in a group that is delegated to it."""

    def start(host: str, port: int) -> Restartable:
        one = kinds()[kind]
        command = tuple(application if word == ASGI else word for word in one.command)
        return Grouped(command, port, workers=one.workers, host=host)

    return start


def nginx_reload(counts: tuple[int, ...], listen: str = "") -> Start:
    """Its own reload; the number of workers goes round ``counts``."""

    def start(host: str, port: int) -> Restartable:
        where = proxies.directory()

        def write(reloads: int) -> None:
            workers = counts[reloads % len(counts)]
            proxies.nginx(where, host, port, workers=workers, listen=listen)

        return proxies.Reloaded(proxies.nginx_argv(where), port, where, write, host=host)

    return start


def haproxy_reload(host: str, port: int) -> Restartable:
    """Master and worker; the master passes the listeners on."""
    where = proxies.directory()

    def write(_: int) -> None:
        proxies.haproxy(where, f"{host}:{port}")

    argv = proxies.haproxy_argv(where, "-W")
    return proxies.Reloaded(argv, port, where, write, host=host, by=signal.SIGUSR2)


def nginx_under_segue(host: str, port: int, *more: str) -> Restartable:
    """Two nginx of one worker each, which listen by themselves."""
    where = proxies.directory()
    proxies.nginx(where, host, port, workers=1, listen="reuseport")
    options = ("--bind-by", "worker", "--stop-signal", "QUIT", *more)
    return proxies.SegueOver(proxies.nginx_argv(where), port, where, host=host, more=options)


def granians_under_segue(host: str, port: int) -> Restartable:
    """Two granian of one worker each, so that one is left when the other dies."""
    one = kinds()["granian"]
    command = ["1" if word == "2" else word for word in one.command]
    return Segue(command, port, engine="migrate", workers=2, more=one.more, host=host)


def haproxy_under_segue(host: str, port: int, *more: str) -> Restartable:
    """Two HAProxy without a master, on descriptor 3; its soft stop is SIGUSR1."""
    where = proxies.directory()
    proxies.haproxy(where, "fd@3")
    options = ("--stop-signal", "USR1", *more)
    return proxies.SegueOver(proxies.haproxy_argv(where), port, where, host=host, more=options)


def overlapping(
    argv: list[str], *, processes: int = 2, inherit: bool = True, wait: float = 0.0
) -> Start:
    """Old and new side by side; ``{host}`` and ``{port}`` are filled in."""

    def start(host: str, port: int) -> Restartable:
        filled = [word.replace("{host}", host).replace("{port}", str(port)) for word in argv]
        return Overlapping(filled, port, host=host, processes=processes, inherit=inherit, wait=wait)

    return start


def uvicorn_third() -> list[str]:
    """The command of one on descriptor 3."""
    return [program("uvicorn"), ASGI, "--no-access-log", "--log-level", "warning", "--fd", "3"]


def _gunicorn_reuse(*more: str) -> list[str]:
    bind = ("-w", "2", "--no-control-socket", "--reuse-port", "-b", "{host}:{port}")
    return [program("gunicorn"), *bind, *more, WSGI]


def stop_start(host: str, port: int) -> Restartable:
    """Uvicorn on a socket that is kept for it."""
    return StopStart(uvicorn_third(), port, host=host)


def systems() -> dict[str, System]:
    """By a short name, in the order of the tables: first their own ways, then Segue."""
    plain = [sys.executable, "-m", "bench.own_listener", "{host}:{port}"]
    return {
        "gunicorn-sync": System("gunicorn sync, HUP", by_hup("gunicorn-sync")),
        "gunicorn-gthread": System("gunicorn gthread, HUP", by_hup("gunicorn-gthread")),
        "gunicorn-sync-reuse": System(
            "gunicorn sync, reuse_port, two masters overlapping",
            overlapping(_gunicorn_reuse(), processes=1, inherit=False),
        ),
        "gunicorn-gthread-reuse": System(
            "gunicorn gthread, reuse_port, two masters overlapping",
            overlapping(_gunicorn_reuse("--threads", "64"), processes=1, inherit=False),
        ),
        "uvicorn": System("uvicorn --workers 2, HUP", by_hup("uvicorn")),
        "hypercorn": System("hypercorn, HUP", by_hup("hypercorn")),
        "granian": System("granian, HUP", by_hup("granian")),
        "nginx": System("nginx reload, one shared listener", nginx_reload((2,))),
        "nginx-reuseport": System("nginx reload, reuseport", nginx_reload((2,), "reuseport")),
        "nginx-fewer": System(
            "nginx reload 4->2->4 workers, reuseport", nginx_reload((4, 2), "reuseport")
        ),
        "haproxy": System("HAProxy reload, master and worker", haproxy_reload),
        "uvicorn-overlap": System(
            "uvicorn --fd, overlapping processes, SO_REUSEPORT", overlapping(uvicorn_third())
        ),
        "asyncio-overlap": System(
            "asyncio example, overlapping processes, SO_REUSEPORT",
            overlapping(plain, inherit=False),
        ),
        "uvicorn-socket": System("uvicorn --fd, shared socket as systemd's, restart", stop_start),
        "segue-gunicorn-sync": System(
            "segue run, gunicorn sync", under_segue("gunicorn-sync"), claims_none=True
        ),
        "segue-gunicorn-gthread": System(
            "segue run, gunicorn gthread", under_segue("gunicorn-gthread"), claims_none=True
        ),
        "segue-uvicorn": System("segue run, uvicorn", under_segue("uvicorn"), claims_none=True),
        "segue-hypercorn": System(
            "segue run, hypercorn", under_segue("hypercorn"), claims_none=True
        ),
        "segue-granian": System("segue run, granian", under_segue("granian"), claims_none=True),
        "segue-nginx": System("segue run, nginx", nginx_under_segue, claims_none=True),
        "segue-haproxy": System("segue run, HAProxy", haproxy_under_segue, claims_none=True),
        "segue-asyncio": System(
            "segue run, asyncio example", under_segue("asyncio"), claims_none=True
        ),
        "segue-asyncio-group": System(
            "segue run, asyncio example, delegated group", in_a_group("asyncio"), claims_none=True
        ),
        "segue-uvicorn-group": System(
            "segue run, uvicorn, delegated group", in_a_group("uvicorn"), claims_none=True
        ),
        "segue-heavy-group": System(
            "segue run, uvicorn that imports for a second, delegated group",
            in_a_group("uvicorn", "bench.heavy_start:app"),
            claims_none=True,
        ),
        "segue-asyncio-drain": System(
            "segue run --engine drain, asyncio example",
            under_segue("asyncio", "drain"),
            claims_none=True,
        ),
    }


def standing() -> list[System]:
    """The same servers where nobody restarts them, for what befalls a worker.

    None claims to lose none: what a worker has accepted is its own.
    """
    known = systems()
    named = {
        "gunicorn sync, shared listener": known["gunicorn-sync"].start,
        "gunicorn gthread, shared listener": known["gunicorn-gthread"].start,
        "uvicorn --workers 2, shared listener": known["uvicorn"].start,
        "hypercorn, shared listener": known["hypercorn"].start,
        "granian --respawn-failed-workers": by_hup("granian", "--respawn-failed-workers"),
        "nginx, shared listener": known["nginx"].start,
        "nginx, reuseport": known["nginx-reuseport"].start,
        "HAProxy, master and one worker": known["haproxy"].start,
        "asyncio example, two processes, SO_REUSEPORT": known["asyncio-overlap"].start,
    }
    ours = [known[f"segue-{one}"] for one in ("uvicorn", "gunicorn-sync", "nginx", "asyncio")]
    named |= {one.name: one.start for one in ours}
    named["segue run, two granian of one worker"] = granians_under_segue
    return [System(name, start) for name, start in named.items()]
