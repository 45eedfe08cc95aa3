"""The servers of the matrix: how Segue runs each, and how each restarts itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench.harness import program

ASGI = "examples.hello:app"
WSGI = "examples.hello_wsgi:app"


@dataclass(frozen=True, slots=True)
class Kind:
    """One server: its command under ``segue run``, and its own restart by SIGHUP if it has one."""

    name: str
    command: tuple[str, ...]
    more: tuple[str, ...] = ()  # of segue run
    own: tuple[str, ...] = ()  # {host} and {port} are filled in
    draining: tuple[str, ...] = ()  # the same command with the middleware, if it keeps connections
    workers: int = 2


def kinds() -> dict[str, Kind]:
    """By name, in the order in which they are measured."""
    uvicorn, gunicorn, hypercorn, granian = (
        program(name) for name in ("uvicorn", "gunicorn", "hypercorn", "granian")
    )
    quiet = ("--no-access-log", "--log-level", "warning")
    gunicorn_own = (gunicorn, "-w", "2", "--no-control-socket", "-b", "{host}:{port}")
    inherited = (gunicorn, "--no-control-socket", "-b", "fd://{fd}")
    granian_at = (granian, "--host", "{host}", "--port", "{port}", "--interface", "asgi")
    made = [
        Kind(
            "uvicorn",
            (uvicorn, ASGI, *quiet, "--fd", "{fd}"),
            own=(uvicorn, ASGI, *quiet, "--workers", "2", "--host", "{host}", "--port", "{port}"),
            draining=(uvicorn, "examples.draining:app", *quiet, "--fd", "{fd}"),
        ),
        Kind("gunicorn-sync", (*inherited, WSGI), own=(*gunicorn_own, WSGI)),
        Kind(
            "gunicorn-gthread",
            (*inherited, "--threads", "64", WSGI),
            own=(*gunicorn_own, "--threads", "64", WSGI),
            draining=(*inherited, "--threads", "64", "examples.draining:wsgi"),
        ),
        Kind(
            "hypercorn",
            (hypercorn, "-b", "fd://{fd}", "--graceful-timeout", "30", ASGI),
            own=(hypercorn, "-w", "2", "-b", "{host}:{port}", ASGI),
            draining=(
                *(hypercorn, "-b", "fd://{fd}", "--graceful-timeout", "30"),
                "examples.draining:app",
            ),
        ),
        Kind(
            "granian",
            (*granian_at, "--workers", "2", ASGI),
            more=("--bind-by", "worker"),
            # Its pause between the workers of a restart is 3.5 s unless told otherwise.
            own=(*granian_at, "--workers", "2", "--respawn-interval", "0.5", ASGI),
            draining=(*granian_at, "--workers", "2", "examples.draining:app"),
            workers=1,
        ),
        Kind("asyncio", (sys.executable, "-m", "examples.asyncio_server")),
    ]
    return {one.name: one for one in made}
