"""Stories side by side, and one after the other in one namespace: none knows of another."""

from __future__ import annotations

import pytest
from bench.abreast import abreast
from bench.differential import numbered

from segue.lab.replay import both
from segue.lab.stories import STORIES

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.18"), pytest.mark.timeout(300)]

# Each leaves something: a request, an orphan that repeats its FIN, one in TIME-WAIT, a Fast Open
# child, and settings.
_LEAVE = (
    "sysctl tcp_migrate_req 1\nlisten A\nsyn c\nclose A",
    "listen A\nsyn c\nack c\naccept A x\nclose x",
    "listen A\nsyn c\nack c\naccept A x\nclose x\nack c\nfin c",
    "sysctl tcp_fastopen 515\nsysctl tcp_syncookies 2\noption A TCP_FASTOPEN 1\nlisten A\nsyn c hi",
    "listen A\nprogram A nobody_new\nsyn c\nsysctl tcp_synack_retries 1",
)
_SEES = "listen A\nsyn c\nack c\naccept A x\nwait 1.2\nwrite x hello\nack c"


def test_what_a_story_leaves_is_gone_before_the_next() -> None:
    """The same story, alone and after each that leaves something, on one stage."""
    alone, ours = both(_SEES)
    assert alone == ours
    told = [one for leaves in _LEAVE for one in (leaves, _SEES)]
    found = {one.number: one for one in abreast(iter(enumerate(told)), stages=1)}
    assert [found[number].seen for number in range(1, len(told), 2)] == [alone] * len(_LEAVE)


@pytest.mark.slow
def test_numbered_stories_are_told_side_by_side_as_alone() -> None:
    """Sixteen on four stages; one that was disturbed says nothing."""
    stories = {number: numbered(number) for number in range(16)}
    for one in abreast(iter(stories.items()), stages=4):
        assert one.is_alike or one.disturbed, one.story


def test_every_ending_is_told() -> None:
    """As many come out as go in, also where a stage has more than one."""
    few = list(STORIES.items())[:6]
    told = list(abreast(((at, story) for at, (_, story) in enumerate(few)), stages=2))
    assert sorted(one.number for one in told) == list(range(6))
