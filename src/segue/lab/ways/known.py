"""Every way by its name, in the order in which a table has them."""

from __future__ import annotations

from collections.abc import Sequence

from segue.errors import UsageError
from segue.lab.ways import close, drain_observed, inherit, migrate_hash
from segue.lab.ways.leaving import Way

WAYS = {
    one.name: one
    for one in (
        close.WAY,
        drain_observed.WAY,
        migrate_hash.WAY,
        inherit.WAY,
    )
}


def chosen(names: Sequence[str]) -> list[Way]:
    """Those that are named, in the order of the table; all when none is.  Raises UsageError."""
    for name in names:
        if name not in WAYS:
            raise UsageError(f"there is no way {name!r}: there are {', '.join(WAYS)}")
    return [way for way in WAYS.values() if not names or way.name in names]
