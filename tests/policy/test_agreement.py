"""A policy decides the same as plain Python and as its program in the interpreter."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy.generated import Written, connections, policies

from segue.policy import common
from segue.policy.builtin import NOBODY, encode_control, encode_table
from segue.policy.compile import compile_policy
from segue.policy.integers import u32
from segue.policy.library import LIBRARY, generations, successors, tenants
from segue.policy.maps import Kind, Map, Ring
from segue.policy.plain import Conn, PlainGroup
from segue.policy.trial import Trial
from segue.shares import SIZE, fill

OWN = (common.control, common.tables, common.counters)
CHANGED = (common.pins, common.lost, successors, tenants, generations)
SLOTS = st.sets(st.integers(0, 7))


def held(one: Map | Ring, contents: dict[int, bytearray]) -> dict[int, bytes]:
    """What is in a map; an element of an array that is all zero is as good as none."""
    if one.kind is Kind.HASH:
        return {key: bytes(data) for key, data in contents.items()}
    return {key: bytes(data) for key, data in contents.items() if any(data)}


def agree(written: object, trial: Trial, conn: Conn, listening: set[int]) -> None:
    """Both ways from the same maps: the same decision, record and count, the same maps after it."""
    group = PlainGroup(listening)
    here = trial.compiled.policy.decide(conn, group)
    chosen = u32(group.selected)
    common.finish(conn, chosen, group.missed, here.verdict, trial.compiled.traced)
    assert trial.decide(conn, listening) == here, written
    for one in trial.compiled.maps:
        there = trial.maps[one.name]
        if isinstance(one, Ring):
            assert there.records == one.records, written
        else:
            assert held(one, there.contents) == held(one, one.contents), (one.name, written)


def fresh() -> None:
    """The table has four of eight slots, one port is pinned; nothing is counted or told yet."""
    for one in (*OWN, *CHANGED):
        one.clear()
    common.events.records.clear()
    common.tables.put(1, encode_table(fill({0: 1, 2: 1, 3: 2, 6: 1})))
    common.tables.put(0, encode_table([NOBODY] * SIZE))
    common.control.put(0, encode_control(1))
    common.pins[1] = 5  # the port that examples shrink to


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    policies(),
    st.booleans(),
    st.lists(st.tuples(connections(), SLOTS), min_size=4, max_size=16),
)
def test_a_generated_policy_decides_alike(
    written: Written, traced: bool, asked: list[tuple[Conn, set[int]]]
) -> None:
    """Whatever it is asked, one question after another, over maps that change meanwhile."""
    fresh()
    trial = Trial(compile_policy(written.policy, traced=traced))
    for conn, listening in asked:
        agree(written, trial, conn, listening)


@pytest.mark.parametrize("name", LIBRARY)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(connections(), SLOTS), min_size=8, max_size=16),
    st.dictionaries(st.integers(0, 15), st.integers(0, 7)),
)
def test_the_library_decides_alike(
    name: str, asked: list[tuple[Conn, set[int]]], homes: dict[int, int]
) -> None:
    """With homes for some of those who ask."""
    fresh()
    for number, slot in homes.items():
        conn = asked[number % len(asked)][0]
        common.pins[conn.remote_port ^ number & 1] = tenants[conn.remote_ip4 >> 8] = slot
        successors[conn.cookie] = generations[conn.cookie] = slot
    trial = Trial(compile_policy(LIBRARY[name]))
    for conn, listening in asked:
        agree(name, trial, conn, listening)
