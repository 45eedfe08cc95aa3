"""The policy of a group that is to end: no new connection, and what came before is finished."""

from __future__ import annotations

from typing import Any

from segue.policy.language import Migrating, Verdict
from segue.policy.plain import Policy

_SYN = 0x02
_ACK = 0x10


@Policy
def refuse(conn: Any, group: Any) -> Any:
    """A SYN is answered with a reset; a handshake under way, and what migrates, go by the table.

    The last ACK of a handshake is asked about only with SYN cookies, and has no SYN flag.
    """
    if conn.migrating == Migrating.NO and conn.tcp_flags & (_SYN | _ACK) == _SYN:
        return Verdict.DROP
    return group.table.select(conn.hash)
