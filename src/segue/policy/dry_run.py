"""What a policy decides for one connection, without a kernel and without any permission."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from segue.address import Address
from segue.errors import InternalError, UsageError
from segue.policy import common
from segue.policy.builtin import encode_control, encode_table
from segue.policy.compile import Compiled
from segue.policy.integers import u32, u64
from segue.policy.language import Migrating
from segue.policy.plain import Conn, Decision, PlainGroup
from segue.policy.trial import Trial
from segue.shares import fill

_SYN = 0x02


def example_connection(remote: str, local: str, migrating: str, number: int, cookie: int) -> Conn:
    """A connection between these HOST:PORT; a new one has sent a SYN without options.

    Raises UsageError when one is no such address, or they are of two families.
    """
    client, server = Address.parse(remote), Address.parse(local)
    if client.family is not server.family:
        raise UsageError(f"{remote} and {local} must both be IPv4 or both IPv6")
    kind = Migrating[migrating.upper()]
    conn = Conn(
        hash=u32(number),
        remote_port=u32(client.port),
        local_port=u32(server.port),
        migrating=kind,
        tcp_flags=u32(_SYN if kind is Migrating.NO else 0),
        cookie=u64(cookie),
        child_cookie=u64(0 if kind is Migrating.NO else cookie + 1),
    )
    there, here = (_words(one.host) for one in (client, server))
    if len(there) == 1:
        conn.remote_ip4, conn.local_ip4 = there[0], here[0]
    else:
        conn.ipv6, conn.remote_ip6, conn.local_ip6 = True, _four(there), _four(here)
    return conn


def _words(host: str) -> list[u32]:
    packed = ip_address(host).packed
    return [u32(int.from_bytes(packed[at : at + 4])) for at in range(0, len(packed), 4)]


def _four(words: list[u32]) -> tuple[u32, u32, u32, u32]:
    first, second, third, fourth = words
    return first, second, third, fourth


def parse_weights(text: str) -> dict[int, float]:
    """SLOT=WEIGHT,... as weights by slot.  Raises UsageError."""
    try:
        pairs = [part.split("=", 1) for part in text.split(",")]
        return {int(slot): float(weight) for slot, weight in pairs}
    except ValueError:
        raise UsageError(
            f"{text!r} are not weights: write SLOT=WEIGHT,... such as 0=1,1=1"
        ) from None


def dry_run(compiled: Compiled, conn: Conn, weights: Mapping[int, float]) -> tuple[Decision, int]:
    """The decision, and the instructions it takes; a listener is in each of these slots.

    Decided as plain Python and by the program, which must agree; maps are as they are in plain
    Python, and changed by it.  Raises UsageError for weights that are none.
    """
    shared = {slot: weight for slot, weight in weights.items() if weight > 0}
    common.tables.put(0, encode_table(fill(shared)))
    common.control.put(0, encode_control(0))
    trial = Trial(compiled)
    outcome = trial.run(conn, weights)
    decided, plain = trial.decision(outcome), compiled.policy.decide(conn, PlainGroup(weights))
    if decided != plain:
        raise InternalError(
            f"{compiled.policy.__name__} decides {plain} as Python and {decided} as a program;"
            " please report it with the policy"
        )
    return decided, outcome.steps
