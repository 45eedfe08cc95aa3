"""The minutes after boot in which Linux takes every listener for one that overflowed."""

from __future__ import annotations

import pytest

from segue.lab.sides import unlike_until


@pytest.mark.parametrize(
    ("uptime", "seconds"), [(5, 0), (269, 0), (271, 150), (300, 121), (420, 1), (421, 0), (9e5, 0)]
)
def test_no_story_is_compared_while_listeners_look_overflowed(
    uptime: float, seconds: float
) -> None:
    """Nor shortly before, since a story takes a while; at any other time there is no wait."""
    assert unlike_until(uptime) == seconds
