"""``segue probe``: what clients lose while a server restarts, connection by connection."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from segue.cli.shared.console import output_console
from segue.cli.shared.instance_at import status_at
from segue.cli.shared.telling import tell, tell_json, write_page
from segue.errors import UsageError
from segue.probe import page, screen, sources, tls
from segue.probe.during import During
from segue.probe.exchange import Exchange, Upload, http, raw, websocket
from segue.probe.first_look import first_look
from segue.probe.schedule import ClosedLoop, KeepAlive, OpenLoop, Pace
from segue.probe.session import Progress, Report, Session
from segue.probe.settings import Settings
from segue.probe.target import Target, parse

LOST, FAILED, INTERRUPTED = 1, 4, 130
# Some are its own.  Its man page and docs/PROBE.md have this table.
EXIT_CODES = {
    "0": "the run is done",
    f"{LOST}": "the target does not answer at all, or something was lost with --fail-on-loss",
    "2": "the request makes no sense, or not now",
    f"{FAILED}": "the command of --during failed",
    f"{INTERRUPTED}": "the run was interrupted",
}
# Enough to see a loss of one in a thousand, and nothing that any server would notice.
RATE = 100.0
DURATION_S = 10.0
EPILOG = """
\b
segue probe http://127.0.0.1:8080/ --rate 2000 --during 'systemctl reload web'
segue probe 127.0.0.1:5432 --hold 3 --count 500 --fail-on-loss

Exit codes: 1 if the target does not answer at all, or if something was lost and --fail-on-loss is
given; 4 if the command failed.
"""


@click.command(epilog=EPILOG)
@click.argument("target", metavar="URL|HOST:PORT")
@click.option("--rate", type=float, help=f"New connections a second.  [default: {RATE:g}]")
@click.option(
    "--concurrency",
    type=int,
    help="Number of clients; each waits for its answer before it asks again.",
)
@click.option("--keep-alive", type=int, metavar="N", help="Number of connections that stay open.")
@click.option("--pipeline", type=int, metavar="N", help="With --keep-alive: send N requests at once"
              " on each connection, without waiting for the answers in between.")  # fmt: skip
@click.option(
    "--websocket", "held", type=int, metavar="N", help="Number of WebSockets to hold open."
)
@click.option("--interval", type=float, default=0.1, show_default=True, help="Seconds between"
              " requests (or pings) on a connection that stays open.")  # fmt: skip
@click.option("--duration", type=float, help=f"Seconds of load.  [default: {DURATION_S:g}; with"
              " --during, until the command has ended]")  # fmt: skip
@click.option("--count", type=int, help="Stop after this many attempts.")
@click.option("--during", metavar="COMMAND", help="Run this command while the load goes on."
              "  It is one string, split into words as a shell does; no shell runs.")  # fmt: skip
@click.option(
    "--steady",
    type=float,
    default=2.0,
    show_default=True,
    help="Seconds of load before the command.",
)
@click.option("--settle", type=float, default=5.0, show_default=True, help="Seconds after the"
              " command that still count as the restart.")  # fmt: skip
@click.option("--during-timeout", type=float, default=120.0, show_default=True, help="Stop the"
              " command after this many seconds.")  # fmt: skip
@click.option("--from", "sources", metavar="ADDRESS[,ADDRESS...]", help="Connect from"
              " these addresses of this machine, in turn.  [default: for a target at 127.x"
              " 127.0.0.2 to 127.0.0.65, since one address has only some 28,000 ports; otherwise"
              " what the system chooses]")  # fmt: skip
@click.option("--method", default="", help="The method of requests.  [default: GET; with --upload"
              " POST, or PUT where requests are pipelined]")  # fmt: skip
@click.option("--upload", type=int, metavar="BYTES", help="Send a body of this size.")
@click.option(
    "--upload-seconds", type=float, default=0.0, help="Send the body over this many seconds."
)
@click.option(
    "--hold", type=float, default=0.0, help="Seconds to wait between connecting and sending."
)
@click.option("--send", help="For HOST:PORT: send these bytes; Python's escapes work.")
@click.option("--expect", help="For HOST:PORT: wait for these bytes.")
@click.option(
    "--version-from",
    metavar="header:NAME|body",
    help="Count which version answered: by this field, or by the body.",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate.")
@click.option(
    "--ca", metavar="FILE", default="", help="Trust the certificate authorities in this file."
)
@click.option("--connect-timeout", type=float, default=3.0, show_default=True, help="Seconds.")
@click.option("--response-timeout", type=float, default=5.0, show_default=True, help="Seconds.")
@click.option(
    "--max-open",
    type=int,
    default=1000,
    show_default=True,
    help="Connections open at the same time, at most.",
)
@click.option("--check/--no-check", default=True, help="First make one attempt, and stop if it is"
              " not answered.  [default: check]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--events", is_flag=True, help="List every attempt in the JSON.")
@click.option("--html", metavar="FILE", help="Write the report as a web page.")
@click.option("--fail-on-loss", is_flag=True, help="Exit with 1 if anything was lost.")
def probe(target: str, **given: Any) -> int:
    """Open connections at a rate and report what became of each.

    A URL (http, https, ws, wss) gets requests.  HOST:PORT is any TCP service: the probe only
    connects, unless --send, --expect or --hold say more.
    """
    found = parse(target)
    settings = _settings(found, given)
    during = _during(given)
    if given["html"]:
        _writable(given["html"])
    session = Session(found, settings, during, given["settle"], ask=status_at(found))
    if given["check"]:
        first_look(settings, found)
    if not found.http and not any(given[name] for name in ("send", "expect", "hold")):
        tell(
            f"segue: {target} is only connected to, and asked nothing: http://{target}/ gets"
            " requests; other services, --send and --expect",
            err=True,
        )
    report = _run(session)
    _tell(report, given)
    if report.interrupted:
        return INTERRUPTED
    if report.command and report.command.failed:
        tell(f"segue: {report.command.sentence}", err=True)
        return FAILED
    return LOST if given["fail_on_loss"] and report.result.lost else 0


def _during(given: dict[str, Any]) -> During | None:
    if not given["settle"] >= 0:
        raise UsageError(f"--settle must be 0 or more seconds (got {given['settle']:g})")
    if given["during"] is None:
        return None
    return During(given["during"], after_s=given["steady"], limit_s=given["during_timeout"])


def _settings(target: Target, given: dict[str, Any]) -> Settings:
    duration = given["duration"]
    if duration is None and given["count"] is None and given["during"] is None:
        duration = DURATION_S
    secure = None
    if target.tls:
        secure = tls.options(target.name, insecure=given["insecure"], ca=given["ca"])
    elif given["insecure"] or given["ca"]:
        raise UsageError(f"--insecure and --ca are for https and wss, not for {target.text}")
    return Settings(
        target=target.address,
        pace=_pace(target, given),
        exchange=_exchange(target, given),
        duration_s=duration,
        count=given["count"],
        connect_timeout_s=given["connect_timeout"],
        response_timeout_s=given["response_timeout"],
        pause_s=given["hold"],
        max_open=given["max_open"],
        sources=_sources(target, given["sources"]),
        version_field=_version(given["version_from"]),
        keep_events=given["events"],
        tls=secure,
    )


def _sources(target: Target, text: str | None) -> tuple[str, ...]:
    return () if text is None else sources.parse(text, target.address)


def _version(text: str | None) -> str:
    if text is None:
        return ""
    kind, _, name = text.partition(":")
    if kind == "header" and name:
        return name
    if text == "body":
        return ":body"
    raise UsageError(f"--version-from must be header:NAME or body (got {text!r})")


def _pace(target: Target, given: dict[str, Any]) -> Pace:
    asked = [
        name for name in ("rate", "concurrency", "keep_alive", "held") if given[name] is not None
    ]
    if len(asked) > 1:
        raise UsageError("give only one of --rate, --concurrency, --keep-alive and --websocket")
    if given["pipeline"] is not None and (given["keep_alive"] is None or not target.http):
        raise UsageError("--pipeline needs --keep-alive and an http or https URL")
    if given["held"] is not None:
        return KeepAlive(given["held"], given["interval"])
    if target.scheme in {"ws", "wss"}:
        return KeepAlive(1, given["interval"])
    if given["keep_alive"] is not None:
        at_once = 1 if given["pipeline"] is None else given["pipeline"]
        return KeepAlive(given["keep_alive"], given["interval"], at_once)
    if given["concurrency"] is not None:
        return ClosedLoop(given["concurrency"])
    return OpenLoop(RATE if given["rate"] is None else given["rate"])


def _exchange(target: Target, given: dict[str, Any]) -> Exchange:
    keep_alive = given["keep_alive"] is not None
    spoken = given["send"] is not None or given["expect"] is not None
    upload = (
        Upload(given["upload"], given["upload_seconds"]) if given["upload"] is not None else None
    )
    if upload is None and given["upload_seconds"]:
        raise UsageError("--upload-seconds needs --upload BYTES")
    if not target.http:
        if upload or given["held"] is not None or given["method"]:
            raise UsageError("--upload, --websocket and --method need a URL")
        return raw(
            _bytes(given["send"] or ""), _bytes(given["expect"] or ""), keep_alive=keep_alive
        )
    if spoken:
        raise UsageError("--send and --expect need HOST:PORT: a URL gets HTTP requests")
    if given["held"] is not None or target.scheme in {"ws", "wss"}:
        if upload or given["method"] or keep_alive:
            raise UsageError("--upload, --method and --keep-alive cannot be used with a WebSocket")
        return websocket(target.host, target.path)
    return http(
        target.host,
        target.path,
        method=given["method"] or _method(given),
        keep_alive=keep_alive,
        keep_body=given["version_from"] == "body",
        upload=upload,
    )


def _method(given: dict[str, Any]) -> str:
    if given["upload"] is None:
        return "GET"
    # Behind a request that is not idempotent nothing may be pipelined (RFC 9112 section 9.3.2).
    return "POST" if given["pipeline"] is None else "PUT"


def _bytes(text: str) -> bytes:
    try:
        return text.encode("ascii", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except UnicodeError as error:
        raise UsageError(f"{text!r} cannot be read as bytes: {error}") from None


def _writable(path: str) -> None:
    """Check before the load that the page can be written after it.  Raises UsageError."""
    folder = os.path.dirname(path) or "."
    if os.path.exists(path):
        good = os.path.isfile(path) and os.access(path, os.W_OK)
    else:
        good = os.access(folder, os.W_OK)
    if not good:
        raise UsageError(
            f"{path} cannot be written: give --html a path where a file can be created"
        )


def _run(session: Session) -> Report:
    with ExitStack() as stack:
        if sys.stderr.isatty():
            console = Console(stderr=True)
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))

            def show(now: Progress) -> None:
                live.update(screen.line(now), refresh=True)

            session.show = show
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, lambda *_: session.interrupt())
            stack.callback(signal.signal, number, before)
        return session.run()


def _tell(report: Report, given: dict[str, Any]) -> None:
    if given["html"]:
        write_page(given["html"], page.render(report))
    if given["as_json"]:
        tell_json(report.as_dict())
        return
    screen.draw(report, output_console(None))
    if given["html"]:
        tell(f"the page is {given['html']}")
