"""Policies and connections by chance: source text of the language, and values that fit together."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import strategies as st

from segue.policy.integers import i64, u32, u64
from segue.policy.language import Migrating, Selection, Verdict
from segue.policy.maps import Map
from segue.policy.plain import Conn, Policy

Draw = Callable[[st.SearchStrategy[Any]], Any]

_NUMBER = count()
U32_MAX, U64_MAX = (1 << 32) - 1, (1 << 64) - 1
# Values at which arithmetic turns.
_EDGES = (0, 1, 2, 31, 255, 65535, (1 << 31) - 1, 1 << 31, U32_MAX)
_WIDE_EDGES = (*_EDGES, 1 << 32, (1 << 63) - 1, 1 << 63, U64_MAX)
_U32 = st.one_of(st.sampled_from(_EDGES), st.integers(0, U32_MAX))
_U64 = st.one_of(st.sampled_from(_WIDE_EDGES), st.integers(0, U64_MAX))
_I64 = st.one_of(st.sampled_from((0, -1, 1, 1 - (1 << 63))), st.integers(-(1 << 40), 1 << 40))
_CONN_U32 = (
    "conn.hash",
    "conn.remote_ip4",
    "conn.local_ip4",
    "conn.remote_port",
    "conn.local_port",
    "conn.tcp_flags",
    "conn.options_length",
    "conn.flow_label",
    "conn.protocol",
    "conn.remote_ip6[0]",
    "conn.remote_ip6[3]",
    "conn.local_ip6[1]",
)
_UNSTEADY_U32 = ("conn.cpu", "conn.random()")  # nobody knows afterwards what they were
_SYN, _ACK = 0x02, 0x10


@dataclass(slots=True)
class Written:
    """A policy made from text, with its maps; ``text`` says all in a failure."""

    text: str
    policy: Policy
    maps: dict[str, Map]

    def __repr__(self) -> str:
        return self.text


@dataclass(slots=True)
class _Writer:
    draw: Draw
    steady: bool
    lines: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def chance(self, of: int) -> bool:
        return bool(self.draw(st.integers(0, of - 1)) == 0)

    # Expressions of a kind, no deeper than ``depth``.

    def u32(self, depth: int) -> str:
        match self.draw(st.integers(0, 9 if depth else 2)):
            case 0:
                known = _CONN_U32 if self.steady else _CONN_U32 + _UNSTEADY_U32
                return str(self.one_of(*known))
            case 1:
                return str(self.one_of("a", "b"))
            case 2:
                return f"u32({self.draw(_U32)})"
            case 3:
                return f"({self.u32(depth - 1)} {self.one_of('<<', '>>')} {self.shift(32)})"
            case 4:
                return f"u32({self.one_of(self.u64, self.i64)(depth - 1)})"
            case 5:
                test = self.test(depth - 1)
                return f"({self.u32(depth - 1)} if {test} else {self.u32(depth - 1)})"
            case 6:
                return f"{self.one_of('-', '~')}{self.u32(depth - 1)}"
            case 7:
                other = self.one_of(*self.loops) if self.loops else str(self.draw(_U32))
                return f"({self.u32(depth - 1)} {self.operator()} {other})"
            case 8:
                return f"mixed({self.u32(depth - 1)}, {self.u32(depth - 1)})"
            case _:
                return f"({self.u32(depth - 1)} {self.operator()} {self.u32(depth - 1)})"

    def u64(self, depth: int) -> str:
        match self.draw(st.integers(0, 6 if depth else 2)):
            case 0:
                known = ("conn.cookie", "conn.child_cookie")
                return str(self.one_of(*known, *(() if self.steady else ("conn.now_ns()",))))
            case 1:
                return "w"
            case 2:
                return f"u64({self.draw(_U64)})"
            case 3:
                return f"({self.u64(depth - 1)} {self.one_of('<<', '>>')} {self.shift(64)})"
            case 4:
                return f"u64({self.one_of(self.u32, self.i64)(depth - 1)})"
            case 5:
                return f"({self.u32(depth - 1)} {self.operator()} {self.u64(depth - 1)})"
            case _:
                return f"({self.u64(depth - 1)} {self.operator()} {self.u64(depth - 1)})"

    def i64(self, depth: int) -> str:
        match self.draw(st.integers(0, 5 if depth else 1)):
            case 0:
                return "s"
            case 1:
                return f"i64({self.draw(_I64)})"
            case 2:
                return f"({self.i64(depth - 1)} {self.one_of('<<', '>>')} {self.shift(64)})"
            case 3:
                return f"i64({self.one_of(self.u32, self.u64)(depth - 1)})"
            case 4:
                return f"-{self.i64(depth - 1)}"
            case _:
                operator = self.one_of("+", "-", "*", "&", "|", "^")
                return f"({self.i64(depth - 1)} {operator} {self.i64(depth - 1)})"

    def operator(self) -> str:
        return str(self.one_of("+", "-", "*", "//", "%", "&", "|", "^"))

    def shift(self, bits: int) -> str:
        if self.chance(4):
            return self.u32(0)
        return str(self.draw(st.integers(0, bits - 1)))

    def test(self, depth: int) -> str:
        match self.draw(st.integers(0, 8 if depth else 2)):
            case 0:
                return str(self.one_of("conn.ipv6", "conn.bind_inany"))
            case 1:
                kind = self.one_of("NO", "REQUEST", "CHILD", "FASTOPEN")
                return f"conn.migrating {self.one_of('==', '!=')} Migrating.{kind}"
            case 2:
                within = self.one_of("in", "not in")
                return f"{self.u32(0)} {within} ({self.draw(_U32)}, {self.draw(_U32)})"
            case 3:
                return f"({self.test(depth - 1)} {self.one_of('and', 'or')} {self.test(depth - 1)})"
            case 4:
                return f"not {self.test(depth - 1)}"
            case 5:
                return f"group.slot({self.u32(depth - 1)} & 7).listening"
            case 6:
                return f"{self.u64(depth - 1)} {self.comparison()} {self.u64(depth - 1)}"
            case 7:
                left, right = self.i64(depth - 1), self.one_of(self.i64, self.u32)(depth - 1)
                return f"{left} {self.comparison()} {right}"
            case _:
                return f"{self.u32(depth - 1)} {self.comparison()} {self.u32(depth - 1)}"

    def comparison(self) -> str:
        return str(self.one_of("<", "<=", ">", ">=", "==", "!="))

    # Statements

    def body(self, indent: int, depth: int) -> None:
        for _ in range(self.draw(st.integers(1, 4))):
            self.statement(indent, depth)

    def put(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def statement(self, indent: int, depth: int) -> None:
        match self.draw(st.integers(0, 13 if depth else 7)):
            case 0 | 1:
                self.put(indent, f"{self.one_of('a', 'b')} = {self.u32(2)}")
            case 2:
                self.put(indent, f"w = {self.u64(2)}")
            case 3:
                self.put(indent, f"s = {self.i64(2)}")
            case 4:
                self.put(indent, f"a {self.operator()}= {self.u32(1)}")
            case 5:
                self.put(indent, f"small[{self.u32(1)} & 15] = {self.u32(1)}")
            case 6:
                self.put(indent, f"del small[{self.u32(1)} & 15]")
            case 7:
                self.put(indent, f"cells[{self.u32(1)} % 6] = {self.u64(1)}")
            case 8:
                self.put(indent, f"if {self.test(2)}:")
                self.body(indent + 1, depth - 1)
                if self.chance(2):
                    self.put(indent, "else:")
                    self.body(indent + 1, depth - 1)
            case 9 if len(self.loops) < 2:
                self.loop(indent, depth)
            case 10:
                self.scalar(indent, depth)
            case 11:
                self.record(indent)
            case 12:
                self.put(indent, f"chosen = group.slot({self.u32(1)} & 7).select()")
                self.put(indent, f"if {self.one_of('', 'not ')}chosen:")
                self.leave(indent + 1)
            case _:
                self.put(indent, f"if {self.test(1)}:")
                self.leave(indent + 1)

    def loop(self, indent: int, depth: int) -> None:
        name = "ij"[len(self.loops)]
        bounds = self.one_of("3", "1, 4", "5, 0, -2", "0")
        self.put(indent, f"for {name} in range({bounds}):")
        self.loops.append(name)
        if self.chance(2):
            self.put(indent + 1, f"if {self.test(1)}:")
            self.put(indent + 2, self.one_of("break", "continue"))
        self.body(indent + 1, depth - 1)
        self.loops.pop()

    def scalar(self, indent: int, depth: int) -> None:
        made, key = self.one_of(("small", "& 15"), ("cells", "% 6"))
        self.put(indent, f"found = {made}.get({self.u32(1)} {key})")
        self.put(indent, "if found is None:")
        self.body(indent + 1, depth - 1)
        self.put(indent, "else:")
        self.put(indent + 1, "w = u64(found) ^ w")
        self.put(indent + 1, f"if found {self.comparison()} {self.u32(1)}:")
        self.body(indent + 2, depth - 1)

    def record(self, indent: int) -> None:
        self.put(indent, f"row = rows.get({self.u64(1)} & 3)")
        self.put(indent, "if row is not None:")
        self.put(indent + 1, f"row.tall += {self.u64(1)}")
        self.put(indent + 1, f"row.low = {self.u32(1)} & 255")
        self.put(indent + 1, f"row.cells[{self.u32(1)} % 4] = {self.u32(1)} & 0xFFFF")
        self.put(indent + 1, f"b = row.cells[{self.u32(1)} & 3] + row.low")

    def leave(self, indent: int) -> None:
        self.put(
            indent,
            "return "
            + self.one_of(
                "Verdict.DROP",
                "Verdict.PASS",
                f"group.slot({self.u32(1)} & 7).select()",
                f"group.table.select({self.u32(1)})",
            ),
        )


_HEAD = """\
def mixed(one, other):
    if one > other:
        return one * 31 ^ other
    return other - one


def written(conn, group):
    a = conn.hash
    b = u32(7)
    w = u64(1)
    s = i64(-1)
"""


def maps() -> dict[str, Map]:
    """What every generated policy may use: few elements, so that keys meet."""
    every = (
        Map("small", value="u32", size=8),
        Map("cells", value="u64", size=4, kind="array"),
        Map("rows", key="u64", value={"low": "u8", "cells": "u16[4]", "tall": "u64"}, size=4),
    )
    return {one.name: one for one in every}


def from_text(text: str, of: dict[str, Map]) -> Written:
    """The policy called ``written`` in this text, over these maps."""
    file = f"<generated {next(_NUMBER)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"u32": u32, "u64": u64, "i64": i64, "Verdict": Verdict}
    space |= {"Migrating": Migrating, "Selection": Selection, **of}
    exec(compile(text, file, "exec"), space)
    return Written(text, Policy(space["written"]), of)


@st.composite
def policies(draw: st.DrawFn, *, steady: bool = False) -> Written:
    """A policy that the language takes; a ``steady`` one asks for nothing that is gone later."""
    writer = _Writer(draw, steady)
    writer.body(1, 3)
    writer.leave(1)
    return from_text(_HEAD + "\n".join(writer.lines) + "\n", maps())


_word = st.builds(u32, _U32)
_port = st.builds(u32, st.integers(1, 65535))
_cookie = st.builds(u64, _U64.filter(bool))


@st.composite
def connections(draw: st.DrawFn) -> Conn:
    """One the kernel could ask about: what is known fits the kind (FACTS, question)."""
    kind = draw(st.sampled_from(Migrating))
    ipv6 = draw(st.booleans())
    # A migrating request comes with its ACK, with a repeated SYN, or, on its timer, without any.
    flags = {Migrating.NO: (_SYN, _ACK), Migrating.REQUEST: (_ACK, _SYN, 0)}.get(kind, (0,))
    arrived = draw(st.sampled_from(flags))
    nothing = (u32(),) * 4
    now, chance = draw(_U64), draw(_U32)
    return Conn(
        hash=draw(_word),
        remote_ip4=u32() if ipv6 else draw(_word),
        local_ip4=u32() if ipv6 else draw(_word),
        remote_ip6=draw(st.tuples(*[_word] * 4)) if ipv6 else nothing,
        local_ip6=draw(st.tuples(*[_word] * 4)) if ipv6 else nothing,
        remote_port=draw(_port),
        local_port=draw(_port),
        ipv6=ipv6,
        flow_label=u32(draw(st.integers(0, 0xFFFFF))) if ipv6 and arrived else u32(),
        tcp_flags=u32(arrived),
        options_length=u32(draw(st.integers(0, 10)) * 4) if arrived else u32(),
        migrating=kind,
        cookie=draw(_cookie),
        child_cookie=u64() if kind is Migrating.NO else draw(_cookie),
        bind_inany=draw(st.booleans()),
        cpu=u32(draw(st.integers(0, 63))),
        clock=lambda: now,
        chance=lambda: chance,
    )
