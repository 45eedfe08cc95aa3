"""A policy as a program of the model: what it answers, and that both ways are asked."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from segue.errors import InternalError, UsageError
from segue.lab.policies import named
from segue.lab.policy_program import PolicyProgram
from segue.model.arrival import Path
from segue.model.program import Question, SkAction
from segue.model.states import State
from segue.policy.maps import Map
from segue.policy.plain import Policy

PORTS = (80).to_bytes(2, "big") + (40000).to_bytes(2, "big")
FOUR = Path(
    ipaddress.ip_address("10.0.0.1").packed + ipaddress.ip_address("10.0.0.2").packed, PORTS
)
SIX = Path(ipaddress.ip_address("fd00::1").packed + ipaddress.ip_address("fd00::2").packed, PORTS)
NEW = Question(hash=7, path=FOUR, cookie=11, length=20, flags=2)
CHILD = NEW._replace(migrating=State.ESTABLISHED, migrating_cookie=99, length=0, flags=0)


@pytest.mark.parametrize("path", [FOUR, SIX])
def test_what_leaves_a_listener_goes_where_it_is_sent(path: Path) -> None:
    """By the cookie of the one in that slot; nowhere while the policy knows of no successor."""
    program = PolicyProgram(named("by_cookie"))
    program.cookies.update({0: 11, 3: 33})
    asked = CHILD._replace(path=path)
    assert program(NEW) is SkAction.PASS
    assert program(asked) is SkAction.DROP
    program.put("successors", 11, 3)
    assert program(asked) == 33
    del program.cookies[3]
    assert program(asked) is SkAction.PASS


def test_it_begins_with_nothing_in_its_maps() -> None:
    """Also as plain Python, where the maps are the policy's own and live as long as it does."""
    first = PolicyProgram(named("by_cookie"))
    first.cookies[0] = 22
    first.put("successors", 11, 0)
    assert first(CHILD) == 22
    second = PolicyProgram(named("by_cookie"))
    assert second(CHILD) is SkAction.DROP


homes = Map("homes", key="u64", value="u32", size=4)


@Policy
def at_home(conn: Any, group: Any) -> Any:
    """To the slot that its child's cookie has."""
    home = homes.get(conn.child_cookie)
    if home is None:
        return group.slot(0).select()
    return group.slot(home).select()


def test_two_ways_that_differ_are_an_error() -> None:
    """Here by what only one of them was told."""
    program = PolicyProgram(at_home)
    program.cookies.update({0: 22, 1: 33})
    assert program(CHILD) == 22
    homes[99] = 1
    with pytest.raises(InternalError, match="as Python and PASS to slot 0 as a program"):
        program(CHILD)
    homes.clear()


def test_a_policy_that_is_not_there() -> None:
    """Its name, and those that are."""
    with pytest.raises(UsageError, match="'best': shares"):
        named("best")
