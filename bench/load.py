"""The probe as a load in a process of its own: ``python -m bench.load 127.0.0.1:8080 --rate 500``.

``segue probe`` is for people: it looks at the target first, asks the kernel why it sent resets, and
tells a story.  This is for measurements and tests, which must not share a core's time with what
they measure more than they can help.  It says on stderr when it begins, and prints the result as
JSON, which ``result`` reads.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from segue.address import Address
from segue.errors import UsageError
from segue.probe import tls
from segue.probe.client import Client
from segue.probe.exchange import http
from segue.probe.fates import Fate
from segue.probe.result import Event, Result
from segue.probe.schedule import ClosedLoop, KeepAlive, OpenLoop, Pace
from segue.probe.session import allow_descriptors
from segue.probe.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.load")
    made.add_argument("target", metavar="HOST:PORT")
    pace = made.add_mutually_exclusive_group(required=True)
    pace.add_argument("--rate", type=float, help="new connections a second, open loop")
    pace.add_argument("--concurrency", type=int, help="clients in a closed loop")
    pace.add_argument("--keep-alive", type=int, metavar="N", help="connections to keep")
    made.add_argument("--interval", type=float, default=0.1, help="between requests kept, s")
    made.add_argument("--duration", type=float, help="s")
    made.add_argument("--count", type=int, help="attempts")
    made.add_argument("--until-stdin-closes", action="store_true")
    made.add_argument("--path", default="/")
    made.add_argument("--max-open", type=int, default=1000)
    made.add_argument("--tls", action="store_true", help="over TLS, any certificate accepted")
    made.add_argument("--events", action="store_true", help="every attempt, in the JSON")
    return made


def settings(given: argparse.Namespace) -> Settings:
    """The run that it asks for.  Raises UsageError."""
    target = Address.parse(given.target)
    return Settings(
        target=target,
        pace=_pace(given),
        exchange=http(str(target), given.path, keep_alive=given.keep_alive is not None),
        duration_s=given.duration,
        count=given.count,
        max_open=given.max_open,
        keep_events=given.events,
        tls=tls.options("", insecure=True) if given.tls else None,
    )


def _pace(given: argparse.Namespace) -> Pace:
    if given.rate is not None:
        return OpenLoop(given.rate)
    if given.concurrency is not None:
        return ClosedLoop(given.concurrency)
    return KeepAlive(given.keep_alive, given.interval)


def result(text: str | bytes) -> Result:
    """What such a process printed.  Raises UsageError when it is something else."""
    try:
        found: dict[str, Any] = json.loads(text)
        plain = {key: found[key] for key in found.keys() - {"total", "lost", "rate"}}
        plain["counts"] = {Fate(name): count for name, count in found["counts"].items()}
        plain["examples"] = {Fate(name): said for name, said in found["examples"].items()}
        plain["statuses"] = {int(code): count for code, count in found["statuses"].items()}
        for name in ("version_times", "certificate_times"):
            plain[name] = {key: (first, last) for key, (first, last) in found[name].items()}
        plain["events"] = tuple(
            Event(at, latency, Fate(name)) for at, latency, name in found["events"]
        )
        return Result(**plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"this is not the result of a probe: {error!r}") from error


def main(args: list[str]) -> None:
    """Run and print, however many were lost."""
    given = parser().parse_args(args)
    client = Client(settings(given))
    allow_descriptors(given.max_open + 64)
    print(f"probing {given.target}", file=sys.stderr, flush=True)
    found = client.run(until_closed=0 if given.until_stdin_closes else None)
    json.dump(found.as_dict(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
