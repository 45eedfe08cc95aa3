"""A script is read: settings, then events, each a time and what happens then.

Nothing but ScriptError is ever raised, and that names the file, the line, the column, and what was
expected there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from segue.lab.packetdrill.cursor import Cursor
from segue.lab.packetdrill.expressions import arguments
from segue.lab.packetdrill.lexer import Kind
from segue.lab.packetdrill.packets import packet
from segue.lab.packetdrill.script import (
    Action,
    Call,
    Clock,
    Code,
    Command,
    Event,
    Place,
    Script,
    When,
)

_LONGEST_S = 100_000.0
_RESULT = 2**63 - 1


def parse(
    text: str, file: str = "script", defined: Mapping[str, str] = MappingProxyType({})
) -> Script:
    """The script; ``file`` is only for errors, and words that are ``defined`` stand for others.

    Raises ScriptError.
    """
    cursor = Cursor(text, file, defined)
    settings: dict[str, str] = {}
    places: dict[str, Place] = {}
    while cursor.token.kind is Kind.OPTION:
        place = cursor.token.place
        name, _, value = cursor.take().text.removeprefix("--").partition("=")
        settings[name], places[name] = value, place
    events: list[Event] = []
    while cursor.token.kind is not Kind.END:
        events.append(_event(cursor))
    return Script(file, settings, tuple(events), places)


def _event(cursor: Cursor) -> Event:
    first = cursor.token
    # A command needs no time at the beginning and at the end.
    when = When(Clock.PREVIOUS) if first.kind is Kind.COMMAND else _when(cursor)
    action = _action(cursor)
    return Event(first.place, when, action, cursor.text(first))


def _when(cursor: Cursor) -> When:
    if cursor.symbol("*"):
        return When(Clock.ANY)
    clock = Clock.PREVIOUS if cursor.symbol("+") else Clock.START
    at = _seconds(cursor, "a time: seconds, +seconds or *")
    if not cursor.symbol("~"):
        return When(clock, at)
    if clock is Clock.PREVIOUS:
        cursor.need("+", "before the end of a relative range")
    end = cursor.token
    until = _seconds(cursor, "the end of the range, in seconds")
    if until < at:
        cursor.refuse("the range ends before it begins", end)
    return When(clock, at, until)


def _seconds(cursor: Cursor, what: str) -> float:
    token = cursor.token
    if token.kind not in {Kind.NUMBER, Kind.FLOAT} or token.text[:2] in {"0x", "0X"}:
        cursor.refuse(f"expected {what}")
    cursor.take()
    value = float(token.text)
    if value > _LONGEST_S:
        cursor.refuse(f"no time is longer than {_LONGEST_S:g} seconds", token)
    return value


def _action(cursor: Cursor) -> Action:
    token = cursor.token
    if token.kind is Kind.COMMAND:
        return Command(cursor.take().text)
    if token.kind is Kind.CODE:
        return Code(cursor.take().text)
    if cursor.is_symbol("<") or cursor.is_symbol(">"):
        return packet(cursor)
    until = None
    if cursor.symbol("..."):
        until = _seconds(cursor, "the time at which the call returns, in seconds")
    if cursor.token.kind is not Kind.WORD:
        cursor.refuse("expected a call, a packet (< or >), `a command` or %{ code }%")
    return _call(cursor, until)


def _call(cursor: Cursor, until: float | None) -> Call:
    name = cursor.need_word("the name of a call")
    given = arguments(cursor)
    cursor.need("=", "and the result of the call")
    result: int | None = None
    if not cursor.symbol("..."):
        result = cursor.number("the result of the call", _RESULT, negative=True)
    error = None
    if result is not None and result < 0 and cursor.token.kind is Kind.WORD:
        error = cursor.take().text
    if cursor.symbol("("):  # (Connection reset by peer)
        depth = 1
        while depth and cursor.token.kind is not Kind.END:
            text = cursor.take().text
            depth += (text == "(") - (text == ")")
        if depth:
            cursor.refuse("expected ')' after the words about the result")
    return Call(name, given, result, error, until)
