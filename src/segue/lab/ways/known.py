"""Every way by its name, in the order in which a table has them."""

from __future__ import annotations

from collections.abc import Sequence

from segue.errors import UsageError
from segue.lab.ways import (
    backlog_zero,
    carry,
    close,
    cookies,
    drain,
    drain_counted,
    drain_observed,
    handoff,
    inherit,
    migrate_hash,
    migrate_policy,
)
from segue.lab.ways.leaving import Way

WAYS = {
    one.name: one
    for one in (
        close.WAY,
        backlog_zero.WAY,
        drain.WAY,
        drain_counted.WAY,
        drain_observed.WAY,
        handoff.WAY,
        cookies.WAY,
        migrate_hash.WAY,
        migrate_policy.WAY,
        inherit.WAY,
        carry.WAY,
    )
}


def chosen(names: Sequence[str]) -> list[Way]:
    """Those that are named, in the order of the table; all when none is.  Raises UsageError."""
    for name in names:
        if name not in WAYS:
            raise UsageError(f"there is no way {name!r}: there are {', '.join(WAYS)}")
    return [way for way in WAYS.values() if not names or way.name in names]
