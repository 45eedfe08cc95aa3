"""By which means newcomers give way: pure, from what is asked for and what is delegated."""

from __future__ import annotations

import pytest

from segue.supervisor.lifecycle.giving_way import AUTO, OFF, Means, means

OWN = "/sys/fs/cgroup/system.slice/web.service/supervisor"
SERVICE = "/sys/fs/cgroup/system.slice/web.service"
OLD = "/sys/fs/cgroup/cpu/web"


@pytest.mark.parametrize(
    ("wanted", "own", "delegated", "group", "why"),
    [
        (AUTO, OWN, [OWN], OWN, "delegated it"),
        (AUTO, OWN, [SERVICE], SERVICE, "delegated it"),
        (AUTO, OWN, ["/sys/fs/cgroup/system.slice"], "", "no control group is delegated"),
        (AUTO, OWN, [], "", "no control group is delegated"),
        (AUTO, None, [], "", "no control group is delegated"),
        (OFF, OWN, [OWN], "", "--cgroup off"),
        (OLD, OWN, [OWN], OLD, "--cgroup names it"),
        (OLD, None, [], OLD, "--cgroup names it"),
    ],
)
def test_groups_are_made_only_where_that_was_left_to_us(
    wanted: str, own: str | None, delegated: list[str], group: str, why: str
) -> None:
    """By the service manager, or by whoever names one."""
    found = means(wanted, own, delegated, unified=False, injects=False)
    assert found.group == group
    assert why in found.why


@pytest.mark.parametrize(
    ("wanted", "unified", "group"), [(AUTO, True, ""), (OLD, False, OLD), (SERVICE, True, "")]
)
def test_with_inject_version_2_has_no_room(wanted: str, unified: bool, group: str) -> None:
    """A process is in one group of each hierarchy."""
    assert means(wanted, OWN, [OWN], unified=unified, injects=True).group == group


def test_a_sentence_says_which_and_why() -> None:
    """For the log, the status and the doctor."""
    assert str(Means("/a", "b")) == "by control groups (cpu.idle) in /a: b"
    assert str(Means("", "c")) == "by nice values: c"
