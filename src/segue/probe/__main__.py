"""A probe in a process of its own: ``python -m segue.probe --target 127.0.0.1:8080 --rate 500``.

For tests and demonstrations, which must not share a core's time with what they measure more than
they can help; prints a table, or JSON for the program that started it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from segue.address import Address
from segue.errors import UsageError
from segue.probe.client import Client
from segue.probe.exchange import Exchange, http, raw
from segue.probe.schedule import ClosedLoop, KeepAlive, OpenLoop, Pace
from segue.probe.session import allow_descriptors
from segue.probe.settings import SOURCES, Settings
from segue.visible import paragraph, visible


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m segue.probe", description=__doc__)
    made.add_argument("--target", required=True, metavar="HOST:PORT")
    pace = made.add_mutually_exclusive_group(required=True)
    pace.add_argument("--rate", type=float, help="new connections a second, open loop")
    pace.add_argument("--concurrency", type=int, help="clients in a closed loop")
    pace.add_argument("--keep-alive", type=int, metavar="N", help="connections to keep")
    made.add_argument("--interval", type=float, default=0.1, help="between requests kept, s")
    made.add_argument("--duration", type=float, help="s")
    made.add_argument("--count", type=int, help="attempts")
    made.add_argument("--until-stdin-closes", action="store_true")
    made.add_argument("--path", default="/")
    made.add_argument("--method", default="GET")
    made.add_argument("--send", help="no HTTP: these bytes, with Python's escapes")
    made.add_argument("--expect", help="no HTTP: wait for these bytes")
    made.add_argument("--expect-close", action="store_true", help="no HTTP: wait for the close")
    made.add_argument("--version-field", default="", metavar="NAME", help="count its values")
    made.add_argument("--connect-timeout", type=float, default=3.0, help="s")
    made.add_argument("--response-timeout", type=float, default=5.0, help="s")
    made.add_argument("--pause", type=float, default=0.0, help="between connect and send, s")
    made.add_argument("--max-open", type=int, default=1000)
    made.add_argument("--sources", type=int, default=SOURCES)
    made.add_argument("--json", action="store_true")
    made.add_argument("--events", action="store_true", help="every attempt, in the JSON")
    return made


def settings(given: argparse.Namespace) -> Settings:
    """The run that was asked for.  Raises UsageError."""
    target = Address.parse(given.target)
    return Settings(
        target=target,
        pace=_pace(given),
        exchange=_exchange(given, target),
        duration_s=given.duration,
        count=given.count,
        connect_timeout_s=given.connect_timeout,
        response_timeout_s=given.response_timeout,
        pause_s=given.pause,
        max_open=given.max_open,
        sources=given.sources,
        version_field=given.version_field,
        keep_events=given.events,
    )


def _pace(given: argparse.Namespace) -> Pace:
    if given.rate is not None:
        return OpenLoop(given.rate)
    if given.concurrency is not None:
        return ClosedLoop(given.concurrency)
    return KeepAlive(given.keep_alive, given.interval)


def _exchange(given: argparse.Namespace, target: Address) -> Exchange:
    keep_alive = given.keep_alive is not None
    if given.send is None and given.expect is None and not given.expect_close:
        return http(str(target), given.path, method=given.method, keep_alive=keep_alive)
    expect = None if given.expect_close else _bytes(given.expect or "")
    return raw(_bytes(given.send or ""), expect, keep_alive=keep_alive)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("ascii", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except UnicodeError as error:
        raise UsageError(f"{text!r} is no string of bytes: {error}") from None


def main(args: Sequence[str] | None = None) -> int:
    """Run and print; 0 however many were lost, 2 when the command makes no sense."""
    given = parser().parse_args(args)
    try:
        client = Client(settings(given))
        allow_descriptors(given.max_open + 64)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: client.stop())
        sys.stderr.write(f"probing {visible(given.target)}\n")
        sys.stderr.flush()
        result = client.run(until_closed=0 if given.until_stdin_closes else None)
    except UsageError as error:
        sys.stderr.write(f"segue.probe: {paragraph(str(error))}\n")
        return error.exit_code
    if given.json:
        json.dump(result.as_dict(), sys.stdout)
        sys.stdout.write("\n")
        return 0
    # Drawing tables costs a tenth of a second at start, and a program wants JSON.
    from rich.console import Console  # noqa: PLC0415

    from segue.probe.report import table  # noqa: PLC0415

    console = Console()
    console.print(table([("", result)], title=f"{result.target}, {result.load}"))
    for fate, text in result.examples.items():
        console.print(f"first {fate.value.replace('_', ' ')}: {text}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
