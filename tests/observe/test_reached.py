"""Which of several listeners at a port gets what comes to a host: as we say, and as Linux does."""

from __future__ import annotations

import itertools
import select
import socket

import pytest

from segue.address import Address
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

# Host, and IPV6_V6ONLY.
HOSTS = [("127.0.0.1", None), ("0.0.0.0", None), ("::ffff:127.0.0.1", False), ("::", False)]
HOSTS += [("::", True), ("::1", True)]


def listening(host: str, v6only: bool | None) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6only is not None:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    made.bind((host, 8080))
    made.listen()
    return made


@pytest.mark.parametrize(
    "hosts", [one for count in range(4) for one in itertools.combinations(HOSTS, count)], ids=str
)
@pytest.mark.parametrize("to", ["127.0.0.1", "::1"])
def test_it_is_who_the_kernel_gives_a_connection(
    hosts: tuple[tuple[str, bool | None], ...], to: str
) -> None:
    """For each set of listeners at one port, one of each kind at most."""
    there = {}
    try:
        for host, v6only in hosts:
            try:
                there[listening(host, v6only)] = host
            except OSError:
                return  # these two cannot be at one port
        with Observer() as observer, socket.socket(Address(to, 1).family) as client:
            found = observer.reached(Address(to, 8080))
            refused = client.connect_ex((to, 8080))
            ready = select.select(list(there), [], [], 0 if refused else 5)[0]
        assert [there[one] for one in ready] == ([] if found is None else [found.host])
    finally:
        for one in there:
            one.close()
