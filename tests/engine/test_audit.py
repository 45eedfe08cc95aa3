"""What differs, which of it matters, and what may be allowed: over values alone."""

from __future__ import annotations

import pytest

from segue.engine.audit import (
    ADDRESS,
    BACKLOG,
    FILTER,
    MD5,
    MEANINGS,
    UID,
    Level,
    Options,
    Value,
    audit,
)
from segue.errors import UsageError
from segue.linux.sockopt import AUDITED

SAME: dict[str, Value] = {
    ADDRESS: "127.0.0.1:80",
    UID: 5,
    BACKLOG: 128,
    FILTER: "none",
    MD5: "none",
    **{option.name: "cubic" if option.text else 1 for option in AUDITED},
}


def two(**other: Value) -> dict[int, Options]:
    """A listener, and one that differs from it in these."""
    return {11: SAME, 22: {**SAME, **other}}


def test_every_option_that_is_read_has_a_meaning() -> None:
    """And nothing has one that is not read: the two lists are one."""
    assert set(MEANINGS) == set(SAME)


def test_equal_listeners_and_a_single_one_have_no_findings() -> None:
    """There is nothing to tell."""
    assert audit(two()) == ()
    assert audit({11: SAME}) == ()
    assert audit({}) == ()


@pytest.mark.parametrize("name", sorted(set(MEANINGS) - {"SO_REUSEPORT"}))
def test_a_difference_is_found_with_its_level_and_its_holders(name: str) -> None:
    """Once, and nothing else with it."""
    (finding,) = audit(two(**{name: 0}))
    assert (finding.name, finding.level) == (name, MEANINGS[name].level)
    assert finding.holders == ((SAME[name], (11,)), (0, (22,)))
    assert finding.matters is (finding.level is not Level.FINE)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ((131072, 0), (60000, 30000), ["SO_RCVBUF"]),
        ((80000, 40000), (60000, 30000), ["SO_RCVBUF"]),
        ((131072, 0), (60000, 20000), ["SO_RCVBUF", "TCP_WINDOW_CLAMP"]),
        ((60000, 0), (60000, 30000), ["TCP_WINDOW_CLAMP"]),
    ],
)
def test_a_clamp_that_the_receive_buffer_has_set_is_told_with_it(
    one: tuple[int, int], other: tuple[int, int], told: list[str]
) -> None:
    """Linux 7.2 sets the clamp to half of SO_RCVBUF; one that the server has set is told too."""
    members = {
        cookie: {**SAME, "SO_RCVBUF": buffer, "TCP_WINDOW_CLAMP": clamp}
        for cookie, (buffer, clamp) in enumerate((one, other))
    }
    assert [finding.name for finding in audit(members)] == told


@pytest.mark.parametrize("members", [{11: {**SAME, "SO_REUSEPORT": 0}}, two(SO_REUSEPORT=0)])
def test_who_cannot_be_joined_is_refused(members: dict[int, Options]) -> None:
    """Alone too: it is no difference, but no successor could start."""
    (finding,) = audit(members)
    assert (finding.name, finding.level) == ("SO_REUSEPORT", Level.REFUSE)


def test_what_is_allowed_is_found_and_does_not_matter() -> None:
    """By name; the other finding stands."""
    found = audit(two(TCP_NODELAY=0, TCP_SAVE_SYN=0), ["TCP_SAVE_SYN"])
    assert [(one.name, one.matters) for one in found] == [
        ("TCP_SAVE_SYN", False),
        ("TCP_NODELAY", True),
    ]


@pytest.mark.parametrize(
    ("name", "advice"), [("TCP_NODELEY", "did you mean TCP_NODELAY"), ("xx", "there are SO_")]
)
def test_an_unknown_name_is_not_allowed(name: str, advice: str) -> None:
    """It was meant to allow something."""
    with pytest.raises(UsageError, match=advice):
        audit(two(), [name])


@pytest.mark.parametrize(
    ("values", "level"), [((0, 5), Level.REFUSE), ((3, 5), Level.WARN), ((0, 0), None)]
)
def test_deferring_differs_by_whether_more_than_by_how_long(
    values: tuple[int, int], level: Level | None
) -> None:
    """On one side only it can stop a client; on both, only the seconds differ."""
    members = two(TCP_DEFER_ACCEPT=values[1])
    members[11] = {**SAME, "TCP_DEFER_ACCEPT": values[0]}
    assert [one.level for one in audit(members)] == ([] if level is None else [level])


def test_options_are_compared_within_a_group_only() -> None:
    """Nothing migrates between two users' listeners, so their options cannot clash."""
    members = {**two(UID=7, TCP_NODELAY=0), 33: {**SAME, UID: 7, "TCP_NODELAY": 1}}
    found = [(one.name, [cookies for _, cookies in one.holders]) for one in audit(members)]
    assert found == [(UID, [(11,), (22, 33)]), ("TCP_NODELAY", [(22,), (33,)])]


def test_of_another_address_only_the_address_is_told() -> None:
    """It is no group of the one that is asked about, whatever its options."""
    members = two(ADDRESS="0.0.0.0:80", SO_REUSEPORT=0, TCP_SAVE_SYN=9)
    assert [one.name for one in audit(members)] == [ADDRESS]


def test_what_one_has_not_at_all_is_not_compared() -> None:
    """A kernel or a family without the option says nothing about it."""
    lacking = {name: value for name, value in SAME.items() if name != "IPV6_TCLASS"}
    assert audit({11: SAME, 22: lacking}) == ()


def test_the_gravest_comes_first() -> None:
    """Refused before warned of before fine."""
    found = audit(two(BACKLOG=1, TCP_NODELAY=0, FILTER="other", SO_MARK=3))
    assert [one.level for one in found] == [Level.REFUSE, Level.WARN, Level.WARN, Level.FINE]
