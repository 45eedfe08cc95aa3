"""Which newcomers have a share before they have proved that they accept.  Pure."""

from __future__ import annotations

import pytest
from tests.supervisor.attach import doubles

from segue.engine.attached import AttachedListener
from segue.supervisor.attach.newcomers import TRUSTED, trusted

NOW = 50.0


def member(cookie: int, *, ready: bool, age: float = 0.0) -> AttachedListener:
    return AttachedListener(cookie, cookie, 1, NOW - age, ready)


def group(proven: int, newcomers: int, age: float = 0.0) -> dict[int, AttachedListener]:
    old = [member(number, ready=True, age=9.0) for number in range(proven)]
    new = [member(100 + number, ready=False, age=age) for number in range(newcomers)]
    return {one.cookie: one for one in (*old, *new)}


@pytest.mark.parametrize(
    ("proven", "newcomers", "strength", "counted"),
    [
        (3, 1, 4, 0),  # one of four was started anew
        (2, 2, 4, 0),
        (1, 3, 4, 3),  # the last one would get everything
        (1, 1, 4, 1),
        (0, 4, 4, 0),  # everybody has a share then
        (1, 1, 2, 0),  # a restart in turn
        (1, 2, 3, 2),
        (4, 4, 4, 0),  # a whole new set beside the old one
        (1, 4, 1, 0),
    ],
)
def test_newcomers_count_at_once_where_few_are_proven(
    proven: int, newcomers: int, strength: int, counted: int
) -> None:
    """Fewer than half of those that served: the kernel would have given newcomers their part."""
    found = trusted(group(proven, newcomers), strength, NOW)
    assert found == {100 + number for number in range(counted)}


def test_who_does_not_accept_is_trusted_for_a_moment_only() -> None:
    """A server that listens and then imports for long keeps nobody waiting but those who came."""
    assert not trusted(group(1, 3, age=TRUSTED), 4, NOW)
    assert trusted({**group(1, 1, age=TRUSTED), 7: member(7, ready=False)}, 4, NOW) == {7}


def test_a_trusted_newcomer_has_its_part_until_it_is_trusted_no_more() -> None:
    """Beside the proven one, by the seats that there were; then that one has everything again."""
    attached, steering, _ = doubles.group(1, 1)
    attached.strength = 4
    attached.members[101].ready = False
    attached.trust(frozenset({101}))
    assert steering.shares[-1] == {0: 0.5, 1: 0.5}
    attached.trust(frozenset({101}))
    assert len(steering.shares) == 1
    attached.trust(frozenset())
    assert steering.shares[-1] == {0: 1.0}
