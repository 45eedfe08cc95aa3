"""The group's table and the counting, in the policy language.

Both are part of every program: ``group.table`` is ``by_table``, and ``count`` is the end of each.
The maps are those of the built-in program, byte for byte (``segue.policy.builtin``).
"""

from __future__ import annotations

from typing import Any

from segue.policy.builtin import KINDS, SCAN, SCAN_TRIES
from segue.policy.integers import u32
from segue.policy.language import UNSELECTED, Migrating, Selection, Verdict
from segue.policy.maps import Map
from segue.shares import SIZE

control = Map("control", value={"active": "u32", "unused": "u32"}, size=1, kind="array")
tables = Map(
    "tables",
    value={
        "entries": f"u16[{SIZE}]",
        "live": "u32",
        "unused": "u32",
        "scan": f"u16[{SCAN}]",
    },
    size=2,
    kind="array",
)
counters = Map(
    "counters", value=dict.fromkeys(KINDS, "u64"), size=UNSELECTED + 1, kind="percpu_array"
)
_SCANNED_BITS = SIZE.bit_length() - 1
_SYN = 0x02
_ACK = 0x10


def by_table(group: Any, number: Any) -> Any:
    """Try the slot in the active copy; when it is gone, some others that have a share."""
    at = control.get(0)
    if at is None:
        return Selection.NONE
    shares = tables.get(at.active & 1)
    if shares is None:
        return Selection.NONE
    chosen = group.slot(shares.entries[number % SIZE]).select()
    if chosen:
        return chosen
    live = shares.live
    if live == 0:
        return chosen
    # The table used the low bits: with them again, one neighbour would get all that is missed.
    start = number >> _SCANNED_BITS
    for more in range(SCAN_TRIES):
        chosen = group.slot(shares.scan[(start + more) % live & (SCAN - 1)]).select()
        if chosen:
            return chosen
    return chosen


def count(conn: Any, slot: Any, missed: Any, verdict: Any) -> Any:
    """Count a decision under its slot and kind."""
    # A listener is also looked for when a segment fits no connection, and when a half-open request
    # repeats its SYN: neither moves anything.
    flags = conn.tcp_flags & (_SYN | _ACK)
    kind = conn.migrating
    if kind == Migrating.NO and flags != _SYN:
        return None
    if kind == Migrating.REQUEST and flags == _SYN:
        return None
    if verdict == Verdict.DROP:
        slot = u32(UNSELECTED)
    counted = counters.get(slot)
    if counted is None:
        return None
    if verdict == Verdict.DROP:
        counted.cancelled += 1
        return None
    if kind == Migrating.NO:
        counted.new += 1
    elif kind == Migrating.REQUEST:
        counted.request += 1
    elif kind == Migrating.CHILD:
        counted.child += 1
    else:
        counted.fastopen += 1
    if missed:
        counted.fell_back += 1
    return None
