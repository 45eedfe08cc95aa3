"""What stands between the parentheses of a call."""

from __future__ import annotations

from segue.lab.packetdrill.cursor import Cursor
from segue.lab.packetdrill.lexer import Kind
from segue.lab.packetdrill.script import (
    Expression,
    Items,
    Number,
    Record,
    Text,
    Union,
    Whatever,
    Word,
)

_DEEPEST = 12
_MOST = 2**64 - 1


def arguments(cursor: Cursor) -> tuple[Expression, ...]:
    """``(a, b)``, from the parenthesis on."""
    cursor.need("(", "before the arguments")
    return _listed(cursor, ")", 0)


def _listed(cursor: Cursor, end: str, depth: int) -> tuple[Expression, ...]:
    found: list[Expression] = []
    if cursor.symbol(end):
        return ()
    while True:
        found.append(_expression(cursor, depth))
        if cursor.symbol(end):
            return tuple(found)
        cursor.need(",", f"or {end!r} after an argument")


def _expression(cursor: Cursor, depth: int) -> Expression:
    if depth > _DEEPEST:
        cursor.refuse(f"nothing is nested more than {_DEEPEST} deep")
    parts = [_simple(cursor, depth)]
    while cursor.symbol("|"):
        parts.append(_simple(cursor, depth))
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _simple(cursor: Cursor, depth: int) -> Expression:
    token = cursor.token
    if cursor.symbol("..."):
        return Whatever()
    if cursor.symbol("["):
        return Items(_listed(cursor, "]", depth + 1))
    if cursor.symbol("{"):
        return _record(cursor, depth + 1)
    if token.kind is Kind.STRING:
        text = ""
        while cursor.token.kind is Kind.STRING:
            text += cursor.take().text
        cursor.symbol("...")
        return Text(text)
    if token.kind is Kind.NUMBER or cursor.is_symbol("-"):
        return Number(cursor.number("a number", _MOST, negative=True))
    if token.kind is Kind.WORD:
        name = cursor.take().text
        if cursor.is_symbol("("):  # inet_addr("..."), htons(80)
            cursor.take()
            return Record({}, (Word(name), *_listed(cursor, ")", depth + 1)))
        return Word(name)
    return cursor.refuse("expected an argument")


def _record(cursor: Cursor, depth: int) -> Record:
    """``{name=value, name(n)=value, value}``."""
    fields: dict[str, Expression] = {}
    rest: list[Expression] = []
    if cursor.symbol("}"):
        return Record({})
    while True:
        name = _field_name(cursor)
        if name is None:
            rest.append(_expression(cursor, depth))
        else:
            fields[name] = _expression(cursor, depth)
        if cursor.symbol("}"):
            return Record(fields, tuple(rest))
        cursor.need(",", "or '}' after a field")


def _field_name(cursor: Cursor) -> str | None:
    """``name=`` or ``name(anything)=``, if that is next."""
    token = cursor.token
    if token.kind is not Kind.WORD:
        return None
    if cursor.ahead().text == "=":
        cursor.take(), cursor.take()
        return token.text
    counted = cursor.ahead().text == "(" and cursor.ahead(3).text == ")"
    if counted and cursor.ahead(4).text == "=":
        for _ in range(5):
            cursor.take()
        return token.text
    return None
