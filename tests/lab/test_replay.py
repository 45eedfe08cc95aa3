"""The model is held to Linux: each story is told to both, and all that is seen agrees."""

from __future__ import annotations

import pytest

from segue.errors import UsageError
from segue.lab.program_stories import PROGRAM_STORIES
from segue.lab.replay import both, replay
from segue.lab.sides import ModelSide
from segue.lab.stories import STORIES
from segue.model.profile import LINUX, SERIES, Profile

IN_IPV6 = [name for name in STORIES if name not in PROGRAM_STORIES and "ipv6" not in STORIES[name]]


# In the minutes after boot a comparison waits (FACTS, boot).
pytestmark = pytest.mark.timeout(300)


def alike(story: str) -> None:
    """Told to both."""
    expected, ours = both(story)
    assert ours == expected


@pytest.mark.root
@pytest.mark.kernel("6.18")
@pytest.mark.parametrize("name", STORIES)
def test_linux_and_the_model_tell_the_same(name: str) -> None:
    """Up to what segue.lab.replay says is free."""
    alike(STORIES[name])


@pytest.mark.root
@pytest.mark.kernel("6.18")
@pytest.mark.parametrize("name", IN_IPV6)
def test_they_tell_the_same_in_ipv6(name: str) -> None:
    """Every story that has no family of its own."""
    alike(f"ipv6\n{STORIES[name]}")


def test_what_a_program_chooses_is_in_the_story() -> None:
    """Not by the hash, which could come to the same: the one that is not first gets all."""
    told = replay(STORIES["selftest: children, IPv6"], ModelSide())
    at = told.index("accept B x")
    assert told[at + 1] == "  = EAGAIN"
    assert told[-1] == "counted {'TCPMigrateReqSuccess': 2}"


def test_a_story_is_written_down_packet_by_packet() -> None:
    """Relative numbers, no stamps' values, and errors by name."""
    assert replay("listen A\n syn c\n accept A x\n ack c", ModelSide()) == [
        "listen A",
        "syn c",
        "  c < SYN ACK seq +0 ack +1 win 65160 mss 1460 scale 7 sack True stamps +0",
        "accept A x",
        "  = EAGAIN",
        "ack c",
        "counted {}",
    ]


@pytest.mark.parametrize("profile", [SERIES, LINUX], ids=lambda one: one.name)
@pytest.mark.parametrize("stop", ["close", "shutdown"])
@pytest.mark.parametrize("version", [4, 6])
def test_all_of_the_series_own_test_are_accepted(profile: Profile, stop: str, version: int) -> None:
    """Patch 8/8: 25 clients that have closed, four listeners stop, the fifth accepts 25."""
    told = replay(STORIES[f"the series' own test, {stop}, IPv{version}"], ModelSide(profile))
    accepted = told.index("accept E x00")
    names = [f"accept E x{number:02}" for number in range(26)]
    assert told[accepted:] == [*names, "  = EAGAIN", "counted {}"]
    assert sum(line.startswith("fin ") for line in told) == 25


def test_the_series_differs_where_its_constants_say() -> None:
    """It counts no migrations, and its slots go along with the queue."""
    story = """
        sysctl tcp_migrate_req 1
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        option B TCP_FASTOPEN 1
        listen A
        syn c hello
        listen B
        close A
        syn d hello
        """
    linux, series = replay(story, ModelSide()), replay(story, ModelSide(SERIES))
    only_linux, counted = (line for line in linux if line not in series)
    assert only_linux.startswith("  d < SYN ACK seq +0 ack +6")
    assert counted == "counted {'TCPMigrateReqSuccess': 1, 'TCPFastOpenPassive': 2}"
    only_series, counted = (line for line in series if line not in linux)
    assert only_series.startswith("  d < SYN ACK seq +0 ack +1 ")
    assert counted == "counted {'TCPFastOpenPassive': 1, 'TCPFastOpenListenOverflow': 1}"


def test_an_unknown_verb_is_refused() -> None:
    """A story is data, and data may be wrong."""
    with pytest.raises(UsageError, match="verb 'dance'"):
        replay("dance A", ModelSide())
