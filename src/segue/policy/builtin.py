"""What the maps of every program hold, as bytes in host order: pins, the table, the counters.

The declarations are in ``segue.policy.common``, where the programs are written.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

from segue.errors import UsageError
from segue.policy.counts import Counts
from segue.shares import SIZE

SLOTS = 1024  # listeners a group can have; a sockarray costs 8 bytes for each
NOBODY = 0xFFFF  # in a table: no slot, the kernel's own hash decides
PINS = 64  # one for each worker whose readiness is asked at the same time

# One copy of the table: SIZE slots, how many scan entries count, padding, the scan entries.
SCAN = 64
SCAN_TRIES = 16  # more would have to go at once, and keep their shares, before the hash decides
_LIVE_AT = SIZE * 2
_SCAN_AT = _LIVE_AT + 8

KEY_BYTES = 4
SOCKET_BYTES = 8  # a descriptor going in, the socket's cookie coming out
TABLE_BYTES = _SCAN_AT + SCAN * 2
CONTROL_BYTES = 8
PIN_BYTES = 4

# One element of counters: u64 each, in this order, which is that of Counts.
KINDS = ("new", "request", "child", "fastopen", "cancelled", "fell_back")
COUNTER_BYTES = len(KINDS) * 8
UNSELECTED = SLOTS  # instead of a slot, and in counters: what the kernel's own hash decided


def encode_number(number: int) -> bytes:
    """A u32 in host order: every key, and the value of a pin."""
    return number.to_bytes(KEY_BYTES, sys.byteorder)


def decode_number(data: bytes) -> int:
    """The other way."""
    return int.from_bytes(data, sys.byteorder)


def encode_socket(descriptor: int) -> bytes:
    """What puts a listener into ``sockets``."""
    return descriptor.to_bytes(SOCKET_BYTES, sys.byteorder)


def encode_control(active: int) -> bytes:
    """What makes this copy of the table the active one."""
    return active.to_bytes(CONTROL_BYTES, sys.byteorder)


def decode_control(data: bytes) -> int:
    """The active copy, 0 or 1."""
    return int.from_bytes(data[:4], sys.byteorder) & 1


def encode_table(entries: Sequence[int]) -> bytes:
    """One copy of the table.  NOBODY is a legal entry; a scan passes it over.

    The scan sees the first SCAN distinct slots, in ascending order.  Raises UsageError unless there
    are SIZE entries, each below SLOTS.
    """
    if len(entries) != SIZE:
        raise UsageError(f"a table must have {SIZE} entries (got {len(entries)})")
    slots = sorted(set(entries) - {NOBODY})
    if slots and not 0 <= slots[0] <= slots[-1] < SLOTS:
        raise UsageError(f"slots must be between 0 and {SLOTS - 1} (got {slots[0]} to {slots[-1]})")
    live = slots[:SCAN]
    scan = live + [NOBODY] * (SCAN - len(live))
    return (
        array("H", entries).tobytes()
        + encode_number(len(live))
        + encode_number(0)
        + array("H", scan).tobytes()
    )


def decode_table(data: bytes) -> list[int]:
    """The entries of one copy of the table."""
    return array("H", data[:_LIVE_AT]).tolist()


EMPTY_TABLE = encode_table([NOBODY] * SIZE)
NO_COUNTS = bytes(COUNTER_BYTES)


def decode_counters(values: Iterable[bytes]) -> Counts:
    """One element of ``counters``, its values for each CPU added up."""
    total = Counts()
    for value in values:
        total += Counts(*array("Q", value))
    return total
