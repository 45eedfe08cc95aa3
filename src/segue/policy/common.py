"""What every program has in common: pins, the table of shares and the counting.

Written in the policy language: ``pinned`` comes before the policy, ``without_reset`` after it,
``group.table`` is ``by_table``, and ``finish`` is the end of each.
The maps are those of the built-in program, byte for byte (``segue.policy.builtin``).
"""

from __future__ import annotations

from typing import Any

from segue.policy.builtin import KINDS, PINS, SCAN, SCAN_TRIES, UNSELECTED
from segue.policy.integers import u32
from segue.policy.language import SOCKETS, Migrating, Selection, Verdict
from segue.policy.maps import Map, Ring
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
pins = Map("pins", value="u32", size=PINS)
counters = Map(
    "counters", value=dict.fromkeys(KINDS, "u64"), size=UNSELECTED + 1, kind="percpu_array"
)
# One record for each decision that is counted; addresses as four words, IPv4 in the last.
events = Ring(
    "events",
    value={
        "when": "u64",  # nanoseconds of CLOCK_MONOTONIC
        "cookie": "u64",
        "child_cookie": "u64",
        "hash": "u32",
        "slot": "u32",
        "remote_0": "u32",
        "remote_1": "u32",
        "remote_2": "u32",
        "remote_3": "u32",
        "remote_port": "u16",
        "kind": "u8",
        "ipv6": "u8",
        "passed": "u8",
        "missed": "u8",
        "unused": "u16",
    },
    size=1 << 18,
)
lost = Map("lost", value={"records": "u64"}, size=1, kind="percpu_array")
# What every group has, whichever of them its policy asks for.
OWN = (SOCKETS, control, tables, pins, counters)
_SCANNED_BITS = SIZE.bit_length() - 1
_SYN = 0x02
_RST = 0x04
_ACK = 0x10


def pinned(conn: Any, group: Any) -> Any:
    """Try the slot that the source port of a SYN is pinned to.

    What migrates has been let in, and a pin to the listener that leaves would only cost it a
    failed choice.
    """
    if conn.migrating != Migrating.NO:
        return Selection.NONE
    slot = pins.get(conn.remote_port)
    if slot is None:
        return Selection.NONE
    return group.slot(slot).select()


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


def without_reset(conn: Any, verdict: Any) -> Any:
    """The policy's verdict; but where an RST would migrate a half-open request, cancel that.

    The request then ends at its own listener.  Linux would subtract it at the listener that it was
    about to migrate to (tcp_check_req hands the target to inet_csk_reqsk_queue_drop).  That one
    then has -1 half-open requests and looks full for good: it answers with SYN cookies only, or
    with tcp_syncookies 0 not at all (measured on 6.18, docs/MODEL.md).  A client that scans sends
    such an RST, and so does a balancer's half-open check.
    """
    if conn.migrating == Migrating.REQUEST and conn.tcp_flags & _RST != 0:
        return Verdict.DROP
    return verdict


def finish(conn: Any, slot: Any, missed: Any, verdict: Any, traced: Any) -> Any:
    """Count a decision under its slot and kind, and when ``traced`` tell of it."""
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
    if traced:
        _tell(conn, slot, missed, verdict)
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


def _tell(conn: Any, slot: Any, missed: Any, verdict: Any) -> Any:
    """One record in ``events``, or one more in ``lost``."""
    room = events.put(
        conn.now_ns(),
        conn.cookie,
        conn.child_cookie,
        conn.hash,
        slot,
        conn.remote_ip6[0],
        conn.remote_ip6[1],
        conn.remote_ip6[2],
        conn.remote_ip6[3] if conn.ipv6 else conn.remote_ip4,
        conn.remote_port & 0xFFFF,
        conn.migrating,
        1 if conn.ipv6 else 0,
        0 if verdict == Verdict.DROP else 1,
        1 if missed else 0,
        0,
    )
    if not room:
        unread = lost.get(0)
        if unread is not None:
            unread.records += 1
