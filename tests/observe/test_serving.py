"""Where those listen who serve an IPv4 address: pure, by what the kernel lists."""

from __future__ import annotations

import pytest

from segue.address import Address
from segue.linux.inet_diag import Entry
from segue.observe.snapshot import serving

EVERY, HOST = Address("0.0.0.0", 80), Address("127.0.0.1", 80)
DUAL, MAPPED = Address("::", 80), Address("::ffff:127.0.0.1", 80)


def listening(host: str, *, v6only: bool | None = None) -> Entry:
    return Entry(
        family=10, state=10, cookie=1, inode=1, uid=0, host=host, port=80, peer_host="::",
        peer_port=0, interface=0, rqueue=0, wqueue=8, retrans=0, expires_ms=0, v6only=v6only,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "host", "found"),
    [(EVERY, "::", DUAL), (HOST, "::ffff:127.0.0.1", MAPPED), (HOST, "::ffff:127.0.0.2", HOST)],
)
def test_an_ipv6_socket_can_serve_an_ipv4_address(
    asked: Address, host: str, found: Address
) -> None:
    """A wildcard serves the wildcard, and a mapped address serves exactly its own."""
    assert serving(asked, [], [listening(host, v6only=False)]) == found


def test_one_that_takes_no_ipv4_serves_no_ipv4_address() -> None:
    """IPV6_V6ONLY decides, not the address."""
    assert serving(EVERY, [], [listening("::", v6only=True)]) == EVERY


def test_the_very_address_goes_before() -> None:
    """The kernel prefers an IPv4 listener for what comes by IPv4."""
    other = [listening("::", v6only=False)]
    assert serving(EVERY, [listening("0.0.0.0")], other) == EVERY
    assert serving(EVERY, [listening("127.0.0.1")], other) == DUAL


def test_an_ipv6_address_is_served_where_it_is() -> None:
    """No IPv4 listener takes what comes by IPv6."""
    assert serving(DUAL, [], [listening("::", v6only=True)]) == DUAL
