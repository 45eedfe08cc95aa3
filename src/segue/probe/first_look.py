"""One attempt before the run: a mistaken address is said in a second, not after the whole load."""

from __future__ import annotations

from dataclasses import replace

from segue.errors import SegueError
from segue.probe.client import Client
from segue.probe.fates import Fate
from segue.probe.result import Result
from segue.probe.schedule import ClosedLoop, KeepAlive
from segue.probe.settings import Settings
from segue.probe.target import Target

# What a server that speaks TLS says to a request in clear text: an alert (RFC 8446 section 6).
ALERT = "(1503"


class Unanswered(SegueError):
    """The target does not answer as it was asked to; no load was made."""


def first_look(settings: Settings, target: Target) -> None:
    """Return when one attempt is answered.  Raises Unanswered with what to look at."""
    exchange = settings.exchange
    if exchange.upload is not None:
        exchange = replace(exchange, upload=replace(exchange.upload, seconds=0.0))
    pace = KeepAlive(1, 1.0) if exchange.keep_alive else ClosedLoop(1)
    once = replace(
        settings, pace=pace, exchange=exchange, count=1, duration_s=None, pause_s=0, max_open=1
    )
    result = Client(once).run()
    (fate,) = [fate for fate, count in result.counts.items() if count and fate.attempt] or [
        Fate.EOF
    ]
    if fate is not Fate.OK:
        note = result.examples.get(fate, "").partition(" s: ")[2]
        raise Unanswered(sentence(fate, target, settings, note, result.answers.get(fate, "")))
    _agreed(result, settings, target)


def _agreed(result: Result, settings: Settings, target: Target) -> None:
    status = next(iter(result.statuses), 0)
    if settings.exchange.held and status != 101:
        raise Unanswered(
            f"{target.text} answered the WebSocket handshake with status {status}, not with 101"
        )


def sentence(fate: Fate, target: Target, settings: Settings, note: str, answer: str = "") -> str:
    """Why the target cannot be probed; ``note`` is what the client wrote down, and ``answer`` how
    the answer began.
    """
    said = f'; it said "{answer}"' if answer else ""
    where = target.text
    if target.text != str(target.address):
        where += f" ({target.address})"
    match fate:
        case Fate.REFUSED:
            return f"no process listens at {where}: the connection was refused"
        case Fate.UNREACHABLE:
            return f"{where} cannot be reached: {note.partition(',')[0]}"
        case Fate.CONNECT_TIMEOUT:
            limit = settings.connect_timeout_s
            return f"{where} does not answer: no connection within {limit:g} s"
        case Fate.RESPONSE_TIMEOUT:
            limit = settings.response_timeout_s
            return f"{where} accepts connections and gives no whole answer within {limit:g} s{said}"
        case Fate.TLS_FAILED:
            why = note.partition(", in the TLS")[0]
            advice = "give its authority with --ca FILE, or use --insecure"
            return f"{where}: {why}" + (f"; {advice}" if "certificate" in why else "; is it http?")
        case Fate.MALFORMED:
            secure = not target.tls and ALERT in note
            hint = "it speaks TLS; write https://" if secure else note.partition(", part of")[0]
            return f"{where} does not answer in HTTP: {hint}"
        case Fate.PORTS_EXHAUSTED | Fate.LOCAL_ERROR:
            return f"{where} was not asked: {fate.meaning}"
        case _:
            hint = "; if it speaks TLS, write https://" if target.http and not target.tls else ""
            how = "in the middle of an answer" if answer else "without an answer"
            return (
                f"{where} ended the first connection {how}: {fate.meaning}{said}{hint}"
                f"{_from_elsewhere(settings)}"
            )


def _from_elsewhere(settings: Settings) -> str:
    if settings.sources or not settings.local:
        return ""
    return (
        f"; it was asked from {settings.local[0]}: if it answers {settings.target.near} alone, give"
        f" --from {settings.target.near}"
    )
