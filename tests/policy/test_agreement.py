"""A policy decides the same as plain Python and as its program in the interpreter."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy.generated import Written, connections, policies

from segue.policy import steering
from segue.policy.builtin import encode_control, encode_table
from segue.policy.compile import compile_policy
from segue.policy.integers import u32
from segue.policy.language import Conn, Group
from segue.policy.library import LIBRARY, generations, pins, successors, tenants
from segue.policy.maps import Map
from segue.policy.trial import Trial
from segue.shares import SIZE, fill

OWN = (steering.control, steering.tables, steering.counters)
SLOTS = st.sets(st.integers(0, 7))


def contents(maps: tuple[Map, ...]) -> dict[str, dict[int, bytes]]:
    """What has been put in; an element that is still all zero is as good as none in an array."""
    return {
        one.name: {
            key: bytes(data)
            for key, data in one.contents.items()
            if one.kind.value == "hash" or any(data)
        }
        for one in maps
    }


def agree(written: object, trial: Trial, conn: Conn, listening: set[int]) -> None:
    """Both ways from the same maps: the same decision, the same count, the same maps after it."""
    group = Group(listening)
    policy = trial.compiled.policy
    here = policy.decide(conn, group)
    steering.count(conn, u32(here.slot), group.missed, here.verdict)
    there = trial.decide(conn, listening)
    assert here == there, written
    expected = contents(trial.compiled.maps)
    for one in trial.compiled.maps:
        memory = trial.maps[one.name]
        one_after = Map.__new__(Map)
        one_after.__dict__.update(one.__dict__ | {"contents": memory.contents})
        assert contents((one_after,))[one.name] == expected[one.name], (one.name, written)


@pytest.fixture(autouse=True)
def _own_maps() -> object:
    """The table gives hash % 8 a slot; nothing is counted yet."""
    for one in OWN:
        one.clear()
    steering.tables.put(1, encode_table(fill({0: 1, 2: 1, 3: 2, 6: 1})))
    steering.tables.put(0, encode_table([65535] * SIZE))
    steering.control.put(0, encode_control(1))
    yield
    for one in OWN:
        one.clear()


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(policies(), st.lists(st.tuples(connections(), SLOTS), min_size=1, max_size=8))
def test_a_generated_policy_decides_alike(
    written: Written, asked: list[tuple[Conn, set[int]]]
) -> None:
    """Whatever it is asked, one question after another, over maps that change meanwhile."""
    trial = Trial(compile_policy(written.policy))
    for conn, listening in asked:
        agree(written, trial, conn, listening)
