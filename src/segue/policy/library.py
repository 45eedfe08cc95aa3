"""Policies ready to use, written in the policy language."""

from __future__ import annotations

from typing import Any

from segue.policy.language import Migrating, Verdict
from segue.policy.maps import Map
from segue.policy.plain import Policy

successors = Map("successors", key="u64", value="u32", size=1024)
tenants = Map("tenants", key="u32", value="u32", size=1024)
generations = Map("generations", key="u64", value="u32", size=1024)


@Policy
def shares(conn: Any, group: Any) -> Any:
    """Every connection, new or migrating, by the table: the working generation, a canary's part.

    What is attached when no other policy is named.
    """
    return group.table.select(conn.hash)


@Policy
def sticky(conn: Any, group: Any) -> Any:
    """By the client's address alone: all its connections to one worker, while shares stay."""
    if conn.ipv6:
        mixed = conn.remote_ip6[0] ^ conn.remote_ip6[1] ^ conn.remote_ip6[2] ^ conn.remote_ip6[3]
    else:
        mixed = conn.remote_ip4
    # Fibonacci hashing (Knuth, volume 3, 6.4): neighbouring addresses go far apart.
    return group.table.select(mixed * 2654435769 >> 12)


@Policy
def by_cookie(conn: Any, group: Any) -> Any:
    """What migrates goes to the successor named for the listener it comes from, or nowhere."""
    if conn.migrating == Migrating.NO:
        return Verdict.PASS
    successor = successors.get(conn.cookie)
    if successor is None:
        return Verdict.DROP
    return group.slot(successor).select()


@Policy
def by_tenant(conn: Any, group: Any) -> Any:
    """Tenants (a /24) with a home stay there; a migrating connection never changes tenant."""
    home = tenants.get(conn.remote_ip4 >> 8)
    if home is None:
        return group.table.select(conn.hash)
    chosen = group.slot(home).select()
    if conn.migrating != Migrating.NO and not chosen:
        return Verdict.DROP
    return chosen


@Policy
def cancel_when_different(conn: Any, group: Any) -> Any:
    """What is queued migrates only to its own generation: ``generations`` has each listener's.

    Its value, by the listener's cookie, is the slot of the one that may take over; an established
    child without one is reset, a half-open request goes by the table.
    """
    if conn.migrating == Migrating.CHILD or conn.migrating == Migrating.FASTOPEN:  # noqa: PLR1714
        heir = generations.get(conn.cookie)
        if heir is None:
            return Verdict.DROP
        chosen = group.slot(heir).select()
        if not chosen:
            return Verdict.DROP
        return chosen
    return group.table.select(conn.hash)


@Policy
def never_migrate(conn: Any, group: Any) -> Any:
    """New connections by the table; whatever would migrate is refused, as without Segue."""
    if conn.migrating != Migrating.NO:
        return Verdict.DROP
    return group.table.select(conn.hash)


LIBRARY: dict[str, Policy] = {
    one.__name__: one
    for one in (shares, sticky, by_cookie, by_tenant, cancel_when_different, never_migrate)
}
# The table knows which generation is the newest, so this is the same.
LIBRARY["newest"] = shares
