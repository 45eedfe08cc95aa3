"""What the language refuses, each with the place and what to write instead, as users read it."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import Any

import pytest

from segue.errors import PolicyError, UsageError
from segue.policy.compile import compile_policy
from segue.policy.integers import i64, u32, u64
from segue.policy.language import Migrating, Selection, Verdict
from segue.policy.maps import Map
from segue.policy.plain import Policy

GOLDEN = Path(__file__).parent.parent / "golden" / "policy_errors.txt"

# A line each: the body of a policy, its statements parted by semicolons where that is Python.
BODIES = """\
return conn.colour
return conn.hash
return 1
return None
return
x = conn.hash
if conn.ipv6: return Verdict.PASS
return unknown
return Verdict.MAYBE
return print(conn.hash)
return group.slot(conn.cookie).select()
return group.slot(conn.hash)
return group.slot(1, 2).select()
return group.slot(number=1).select()
return group.table.select(conn.cookie)
return group.table
x = homes.get(conn.hash); return group.slot(x).select()
x = homes.get(conn.hash) + 1; return Verdict.PASS
x = homes[conn.hash]; return Verdict.PASS
x = homes.get(conn.cookie); return Verdict.PASS
homes[1] = conn.cookie; return Verdict.PASS
homes[1] = conn.ipv6; return Verdict.PASS
rows[1] = 2; return Verdict.PASS
del cells[1]; return Verdict.PASS
del conn; return Verdict.PASS
x = rows.get(1); return group.slot(x.low).select()
x = sockets.get(0); return Verdict.PASS
conn.hash = 1; return Verdict.PASS
x = 1.5; return Verdict.PASS
x = "text"; return Verdict.PASS
x = [1, 2]; return Verdict.PASS
x = conn.hash / 2; return Verdict.PASS
x = conn.hash ** 2; return Verdict.PASS
x = conn.hash << 32; return Verdict.PASS
x = 1 << conn.hash; return Verdict.PASS
x = 1 // 0; return Verdict.PASS
x = 1 << 80; return Verdict.PASS
x = conn.hash - -1; return Verdict.PASS
x = u64(1) + i64(1); return Verdict.PASS
x = i64(conn.hash) // 2; return Verdict.PASS
x = u32("1"); return Verdict.PASS
x = u32(); return Verdict.PASS
x = conn.remote_ip6[4]; return Verdict.PASS
x = conn.remote_ip6[conn.hash]; return Verdict.PASS
x = 1 if conn.ipv6 else u32(2); return Verdict.PASS
x = conn.ipv6 + 1; return Verdict.PASS
x = 0 < conn.hash < 5; return Verdict.PASS
x = conn.hash is homes; return Verdict.PASS
x = conn.hash in homes; return Verdict.PASS
x = conn.cookie < -1; return Verdict.PASS
x = conn.hash and 1; return Verdict.PASS
x = lambda: 1; return Verdict.PASS
x, y = 1, 2; return Verdict.PASS
while True: pass
for x in homes: pass
for x in range(conn.hash): pass
for x in range(1000): pass
for x in range(0, 9, 0): pass
import os; return Verdict.PASS
raise ValueError
assert conn.hash; return Verdict.PASS
return forever(conn)
return helper(conn, 1)
return nothing(conn)
x = nothing(conn) + 1; return Verdict.PASS
return one_or_other(conn)
""".splitlines()

_HEAD = """\
def forever(conn):
    return forever(conn)


def helper(conn):
    return conn.hash


def nothing(conn):
    pass


def one_or_other(conn):
    if conn.ipv6:
        return Verdict.PASS
    return conn.hash


def refused(conn, group):
"""


def refusal(body: str) -> str:
    """What is said of a policy with this body."""
    text = _HEAD + "".join(f"    {part}\n" for part in body.split("; "))
    linecache.cache["policy.py"] = (len(text), None, text.splitlines(keepends=True), "policy.py")
    space: dict[str, Any] = {
        "u32": u32,
        "u64": u64,
        "i64": i64,
        "Verdict": Verdict,
        "Migrating": Migrating,
        "Selection": Selection,
        "homes": Map("homes", size=8),
        "cells": Map("cells", size=8, kind="array"),
        "rows": Map("rows", value={"low": "u8"}, size=8),
        "sockets": Map("sockets", value="u64", size=8, kind="sockets"),
    }
    exec(compile(text, "policy.py", "exec"), space)
    with pytest.raises(PolicyError) as raised:
        compile_policy(Policy(space["refused"]))
    return str(raised.value)


def test_every_refusal_reads_as_it_was_reviewed() -> None:
    """A changed word shows here."""
    said = "\n\n".join(refusal(body) for body in BODIES) + "\n"
    assert said == GOLDEN.read_text()


def test_a_policy_whose_source_is_gone_is_refused() -> None:
    """Made of text that no file has."""
    space: dict[str, Any] = {}
    exec("def gone(conn, group):\n    return 1\n", space)
    with pytest.raises(UsageError, match="the source of gone in <string> cannot be read"):
        compile_policy(Policy(space["gone"]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "1st", "size": 1}, "'1st' cannot be a map's name"),
        ({"name": "a", "size": 0}, "a size must be between 1 and 16777216"),
        ({"name": "a", "size": 1, "key": "u8"}, "a key must be u32 or u64"),
        ({"name": "a", "size": 1, "key": "u64", "kind": "array"}, "the key of an array is u32"),
        ({"name": "a", "size": 1, "kind": "tree"}, "a kind must be hash, array or percpu_array"),
        ({"name": "a", "size": 1, "value": "i8"}, "cannot be 'i8'"),
        ({"name": "a", "size": 1, "value": {"x": "u16[3]"}}, "a power of two"),
        ({"name": "a", "size": 1, "value": {}}, "at least one field"),
    ],
)
def test_a_map_the_kernel_could_not_make_is_refused(given: dict[str, Any], said: str) -> None:
    """With what it may be."""
    with pytest.raises(UsageError) as raised:
        Map(**given)
    assert said in str(raised.value)


def test_a_map_cannot_have_the_name_of_one_of_segues() -> None:
    """Its contents would be taken for the group's own."""
    text = "def clashing(conn, group):\n    x = pins.get(1)\n    return Verdict.PASS\n"
    linecache.cache["clash.py"] = (len(text), None, text.splitlines(keepends=True), "clash.py")
    space: dict[str, Any] = {"pins": Map("pins", size=8), "Verdict": Verdict}
    exec(compile(text, "clash.py", "exec"), space)
    with pytest.raises(UsageError, match="pins"):
        compile_policy(Policy(space["clashing"]))
