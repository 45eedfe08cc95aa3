"""Pods with hostNetwork, updated one beside the other: alone, and with segue attach on the host."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import proxies
from bench.case import Case, Sample, Tally
from bench.cases.carry import COLUMNS, restarted
from bench.cases.carry_attach import attached
from bench.harness import free_port, program
from bench.pods import Group, Pods
from bench.rounds import take_turns
from bench.servers import ASGI, WSGI
from bench.systems import LOCAL
from bench.table import Column, Row

# None of these answers pauses.
_CARRY = ("--carry", "http", "--idle-grace", "0.1")
_LISTENERS = 2
Start = Callable[[int, float], Pods]


@dataclass(frozen=True, slots=True)
class Way:
    """A server in pods; ``flags`` are of segue attach, () for none of that."""

    name: str
    start: Start
    flags: tuple[str, ...] = ()
    claims_none: bool = False


def _of(*argv: str) -> Start:
    """A server whose processes listen by themselves; ``{port}`` is filled in."""

    def start(port: int, pre_stop: float) -> Pods:
        filled = [word.replace("{port}", str(port)) for word in argv]
        return Pods(filled, port, host=LOCAL, listeners=_LISTENERS, pre_stop=pre_stop)

    return start


def _nginx(port: int, pre_stop: float) -> Pods:
    where = proxies.directory()
    proxies.nginx(where, LOCAL, port, workers=_LISTENERS, listen="reuseport")
    return Pods(
        proxies.nginx_argv(where), port, host=LOCAL, listeners=_LISTENERS, pre_stop=pre_stop,
        stop=signal.SIGQUIT, directory=where,
    )  # fmt: skip


def ways() -> list[Way]:
    """Each alone, with what waits moved, and with what is kept carried."""
    gunicorn = (program("gunicorn"), "-w", str(_LISTENERS), "--no-control-socket", "--reuse-port")
    found: list[Way] = []
    for name, start in (
        (
            "gunicorn gthread --reuse-port",
            _of(
                *gunicorn, "--threads", "64", "--keep-alive", "75", "-b", f"{LOCAL}:{{port}}", WSGI
            ),
        ),
        (
            "granian",
            _of(
                *(program("granian"), "--host", LOCAL, "--port", "{port}", "--interface", "asgi"),
                *("--workers", str(_LISTENERS), ASGI),
            ),
        ),
        ("nginx, reuseport", _nginx),
    ):
        found += [
            Way(name, start),
            Way(f"{name}, segue attach", start, ("--generation-by", "unit")),
            Way(
                f"{name}, segue attach --carry http", start,
                ("--generation-by", "unit", *_CARRY), claims_none=True,
            ),
        ]  # fmt: skip
    return found


def measure(
    *, repetitions: int = 1, restart: int = 10, clients: int = 50, think: float = 0.4,
    pre_stop: float = 3.0, only: str = "",
) -> list[Row]:  # fmt: skip
    """``only`` is a word that the names must have."""

    def once(way: Way, tally: Tally) -> Sample:
        pods = way.start(free_port(), pre_stop)
        tally.expect(way.name, command=pods.shown, claims_none=way.claims_none)
        with pods:
            if not way.flags:
                return restarted(pods, restart, clients, think, 1.0)
            return _attached(pods, way.flags, restart, clients, think)

    return take_turns([one for one in ways() if only in one.name], repetitions, once)


def _attached(
    pods: Pods, flags: tuple[str, ...], restart: int, clients: int, think: float
) -> Sample:
    """The agent is a pod too, which sees the processes of the host (hostPID)."""
    group = Group(pods.above)
    try:
        return attached(pods, flags, restart, clients, think, 1.0, group.confined())
    finally:
        group.remove()


def notes(_: Sequence[Row]) -> list[str]:
    """What happens to whom."""
    return [
        (
            "A new pod is started; once its listeners are there, the old one has 3 s more"
            " (preStop); then its process 1 gets SIGTERM (nginx: SIGQUIT). Each pod has PID, mount,"
            " cgroup, UTS and IPC namespaces of its own; the network namespace is common. segue"
            " attach has a mount and a cgroup namespace of its own, and sees all processes."
        ),
    ]


CASE = Case(
    "pods",
    "Pods with hostNetwork and maxSurge, kept connections",
    "Clients as in carry-servers; ten updates. As the servers are, and with segue attach on their"
    " host.",
    measure,
    (*COLUMNS, Column("carried", "carried", "sum", 0)),
    notes,
    quick={"restart": 2},
)
