"""The policies that stories name: those of the library, and what no server would want."""

from __future__ import annotations

from functools import cache
from typing import Any

from segue.errors import UsageError
from segue.policy.compile import Compiled, compile_policy
from segue.policy.language import Migrating, Verdict
from segue.policy.library import LIBRARY
from segue.policy.plain import Policy


@Policy
def nobody_new(conn: Any, group: Any) -> Any:  # noqa: ARG001
    """Refuses every SYN; what migrates goes by the kernel's own hash."""
    if conn.migrating == Migrating.NO:
        return Verdict.DROP
    return Verdict.PASS


@Policy
def gone(conn: Any, group: Any) -> Any:
    """What migrates to a slot without a listener, which comes to the kernel's own hash."""
    if conn.migrating == Migrating.NO:
        return Verdict.PASS
    return group.slot(1000).select()


@Policy
def second(conn: Any, group: Any) -> Any:  # noqa: ARG001
    """All to the listener that was made after the first."""
    return group.slot(1).select()


_OWN = {one.__name__: one for one in (nobody_new, gone, second)}


def named(name: str) -> Policy:
    """The policy of this name.  Raises UsageError."""
    found = _OWN.get(name) or LIBRARY.get(name)
    if found is None:
        raise UsageError(f"no story has the policy {name!r}: {', '.join({**LIBRARY, **_OWN})}")
    return found


@cache
def compiled(policy: Policy) -> Compiled:
    """As a program, made once: many stories have the same few."""
    return compile_policy(policy)
