"""What a forecast says, in sentences: which way to take, and why.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from segue.plan.load import Load
from segue.plan.simulate import LOST, Forecast
from segue.plan.ways import WAYS

# Below one lost connection in ten days nobody changes how a server is restarted.
_FEW = 0.1


@dataclass(frozen=True, slots=True)
class Advice:
    """The way to take, the reason, and what else is to be known, each a sentence or two."""

    way: str
    reason: str
    more: tuple[str, ...]


def advise(forecast: Forecast, restarts_per_day: float) -> Advice:
    """Of the ways that lose least, the one that asks least of whoever restarts."""
    lost = {way.name: forecast.figure(way.name, LOST).mean for way in WAYS}
    broken = _broken(forecast, "close")
    if broken * restarts_per_day < _FEW:
        return Advice(
            "close",
            f"Closing the listener breaks {_number(broken)} connections a restart: nothing need be"
            " changed.",
            _more(forecast, "close"),
        )
    kept = _broken(forecast, "migrate-policy")
    if kept * restarts_per_day >= _FEW and _broken(forecast, "carry") < kept:
        reason = (
            f"Closing loses {_number(lost['close'])} connections a restart. Migration saves what"
            f" no worker has accepted, and {_number(kept)} accepted connections still end; carry"
            f" loses {_number(lost['carry'])} and no client has to connect again."
        )
        return Advice("carry", reason, (_instead(forecast), *_more(forecast, "carry")))
    reason = (
        f"Closing loses {_number(lost['close'])} connections a restart, migration"
        f" {_number(lost['migrate-policy'])}, and the old listener is gone at once."
    )
    more = (_instead(forecast), *_more(forecast, "migrate-policy"))
    return Advice("migrate-policy", reason, more)


def _broken(forecast: Forecast, way: str) -> float:
    """Connections that do not go on as if nothing had happened."""
    return forecast.figure(way, LOST).mean + forecast.figure(way, "reconnected").mean


def _instead(forecast: Forecast) -> str:
    """What there is for kernels that cannot migrate."""
    drained = forecast.figure("drain-observed", "listener_gone_s")
    lost = forecast.figure("drain-observed", LOST).mean
    return (
        "Before Linux 5.14, or without CAP_BPF: drain-observed, which loses"
        f" {_number(lost)} connections a restart, and whose old listener is gone after"
        f" {seconds(drained.mean)} in the mean, {seconds(drained.high)} in 39 of 40 restarts."
    )


def _more(forecast: Forecast, way: str) -> tuple[str, ...]:
    load = forecast.study.load
    said = [not_accepted(load)]
    need = forecast.backlog(way)
    if way in {"migrate-policy", "carry"}:
        word = "is enough" if need <= load.backlog else "is not"
        said.append(
            "Children that migrate come into a queue whatever its backlog is, and while the queue"
            f" is longer than that, SYNs are dropped: in 999 of 1,000 restarts a backlog of {need}"
            f" holds them all; {load.backlog} {word}."
        )
    gone = forecast.figure(way, "configuration_gone_s")
    said.append(
        f"Nothing is served by the old configuration after {seconds(gone.mean)} in the mean, and"
        f" {seconds(gone.high)} in 39 of 40 restarts."
    )
    if gone.high >= forecast.study.limits.limit_s:
        said.append("That is the limit: what was not over by then was cut.")
    return tuple(said)


def not_accepted(load: Load) -> str:
    """How many of the connections that a restart meets no worker has accepted yet: closed forms."""
    waiting = load.half_open + _queued(load)
    accepted = load.kept + load.rate * load.answer.mean_s
    part = 100 * waiting / (waiting + accepted) if waiting + accepted else 0.0
    return (
        f"Of the connections that a restart meets, {_number(waiting)} are not accepted yet and"
        f" {_number(accepted)} are: {part:.2g} % and {100 - part:.4g} %."
    )


def _queued(load: Load) -> float:
    if load.depths:
        return sum(load.depths) / len(load.depths)
    waits = load.accept.mean_s
    if load.stall_s:
        waits += load.stall_s**2 / (2 * load.stall_every_s)
    return load.rate * waits


def assumed(load: Load) -> list[str]:
    """The load, a line for each part of it."""
    workers = "worker" if load.workers == 1 else "workers"
    said = [
        (
            f"{load.rate:,g} connections/s arrive at {load.workers} {workers}, each with a backlog"
            f" of {load.backlog}"
        ),
        (
            f"a handshake takes {load.round_trip.describe()}, an accept {load.accept.describe()},"
            f" an answer {load.answer.describe()}"
        ),
        f"{load.kept:,} connections are kept, and wait {load.think_s:g} s between two requests",
    ]
    if load.stall_s:
        said.append(f"each worker stalls {load.stall_s:g} s of every {load.stall_every_s:g} s")
    if load.loss:
        said.append(f"{load.loss * 100:g} % of packets are lost")
    if load.burst:
        said.append(f"the rate differs by {load.burst * 100:.3g} % from restart to restart")
    if load.closes_after_s:
        said.append(
            "a worker that stops accepting closes its listener"
            f" {seconds(load.closes_after_s)} later"
        )
    if load.careless:
        said.append(f"{load.careless * 100:g} % of clients do not notice that a server closed")
    return said


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 or value == 0 else f"{value:.2g}"


def seconds(value: float) -> str:
    """Such as "12 ms" or "1.3 s"."""
    if value < 0.0005:
        return "0 s" if value == 0 else "under 1 ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.3g} s"
