"""How many processes one look looks at, however many there are."""

from __future__ import annotations

from segue.linux.proc import descend
from segue.supervisor.workers.processes import LOOKED_AT, part


def test_a_walk_stops_once_it_has_found_more_than_asked_for() -> None:
    """Of a worker with thousands of children in a tree, few are asked for theirs."""
    asked = []

    def children(pid: int) -> range:
        asked.append(pid)
        return range(10 * pid, 10 * pid + 10) if pid < 10_000 else range(0)

    found = descend(1, children, 64)
    assert len(found) == 65, "one more, which tells that there are others"
    assert len(asked) < 10
    asked.clear()
    assert len(descend(1, lambda _: (), 64)) == 1
    assert descend(1, lambda pid: (2, 3) if pid == 1 else (), 3) == (1, 2, 3)


def test_all_workers_have_the_same_part_of_a_look() -> None:
    """However many there are, each is looked at, and all together in bounded time."""
    assert part(1) == LOOKED_AT
    assert part(8) * 8 == LOOKED_AT
    assert part(512) == 4
    assert part(0) == LOOKED_AT
