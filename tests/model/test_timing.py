"""When timers fire: at the very instant, or at Linux's ticks."""

from __future__ import annotations

import pytest
from tests.model.peers import CLIENT, SERVER

from segue.address import Address
from segue.model.client import Client
from segue.model.host import Host
from segue.model.timing import EXACT, Late, Ticks

COUNTED = 1000  # ticks at the clock's beginning: 125 times eight


@pytest.mark.parametrize(
    ("now", "seconds", "fires"),
    [
        (0.0, 0.001, 0.008),  # what is left of a tick counts as one, and the next is waited for
        (0.0039, 0.004, 0.008),
        (0.0041, 0.004, 0.012),
        (0.0, 0.248, 0.252),  # 62 ticks: the last that is looked at with each
        (0.0, 0.252, 0.256),  # 63: at each eighth
        (0.0041, 0.252, 0.288),
        (0.0, 2.012, 2.016),  # 503
        (0.0, 2.016, 2.144),  # 504: at each 64th; 1,000 is 40 more than a multiple of that
    ],
)
def test_linux_fires_at_ticks_and_what_is_far_away_later(
    now: float, seconds: float, fires: float
) -> None:
    """As calc_wheel_index has it."""
    assert Ticks(COUNTED).at(now, seconds) == pytest.approx(fires)
    assert Ticks(COUNTED, more=1).at(now, seconds) == pytest.approx(fires + 0.004)


def test_a_timeout_that_may_be_doubled_is_of_whole_ticks() -> None:
    """So that it is no longer than the ticks it takes, times two."""
    assert Ticks(COUNTED).whole(0.2123) == pytest.approx(0.216)
    assert EXACT.whole(0.2123) == 0.2123


def test_others_are_exact_or_late() -> None:
    """By as much as they are told."""
    assert EXACT.at(5.0, 0.5) == 5.5
    assert Late(0.25).at(5.0, 0.5) == 5.75


def test_a_hosts_timers_go_by_it() -> None:
    """That of a SYN-ACK is a second, and so 250 ticks: it fires at an eighth."""
    host = Host(SERVER, secret=bytes(16), timing=Ticks(COUNTED))
    listener = host.socket()
    host.bind(listener, Address(SERVER, 80))
    host.listen(listener, 8)
    host.receive(0.001, Client(Address(CLIENT, 40000), Address(SERVER, 80)).syn())
    assert host.deadline() == pytest.approx(1.024)
