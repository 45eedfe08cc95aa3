"""Which listeners of somebody else's have had their time, and with which settings that counts."""

from __future__ import annotations

import math

import pytest

from segue.address import Address
from segue.engine.attached import AttachedListener
from segue.errors import UsageError
from segue.supervisor.attach.carrying import over
from segue.supervisor.attach.settings import AttachSettings

OLD = AttachedListener(cookie=1, slot=0, generation=1, since=0.0, ready=True)
NEW = AttachedListener(cookie=2, slot=1, generation=2, since=9.0, ready=True)
UNREADY = AttachedListener(cookie=3, slot=2, generation=2, since=9.0, ready=False)


@pytest.mark.parametrize(
    ("entitled", "gone", "found"),
    [
        ({0, 1}, (), set()),
        ({1}, (), {1}),
        ({0}, (), {2}),
        ({0, 1}, (7,), {7}),
        ({1}, (7,), {1, 7}),
        ((), (7,), set()),
    ],
)
def test_a_listener_is_over_without_a_share_or_when_it_has_closed(
    entitled: set[int], gone: tuple[int, ...], found: set[int]
) -> None:
    """As long as another has one; and one that was never ready has had no time yet."""
    assert over([OLD, NEW, UNREADY], entitled, gone) == found


def test_settings_that_cannot_be() -> None:
    """The application of such a server says nothing, and a grace is a time."""
    where = Address.parse(":8080")
    assert AttachSettings(where, carry="http", idle_grace=0.0).idle_grace == 0
    with pytest.raises(UsageError, match="--carry must be off or http"):
        AttachSettings(where, carry="app")  # type: ignore[arg-type]
    for grace in (-1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="--idle-grace must be 0 or more"):
            AttachSettings(where, idle_grace=grace)
