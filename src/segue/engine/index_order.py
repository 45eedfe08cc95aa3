"""Our picture of the order in which the kernel keeps a group's members.

Classic BPF names a member by its place in ``sock_reuseport.socks``: listen() appends, and when a
member leaves the last one moves into its hole (__reuseport_detach_sock).  The kernel shows this
order to nobody, so it is kept here, and a place whose holder is not certain is never used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


class IndexOrder:
    """Cookies by place; None where the holder is not certain."""

    def __init__(self, order: Sequence[int | None] = ()) -> None:
        self._order = list(order)

    @property
    def order(self) -> tuple[int | None, ...]:
        """The whole picture."""
        return tuple(self._order)

    def index(self, cookie: int) -> int | None:
        """The member's place, or None while it is not certain."""
        return self._order.index(cookie) if cookie in self._order else None

    @property
    def last(self) -> int | None:
        """Who moves when somebody else leaves."""
        return self._order[-1] if self._order else None

    def joined(self, cookie: int) -> None:
        """A member listened: it has the last place."""
        self._order.append(cookie)

    def left(self, *cookies: int) -> None:
        """These members left, in an order that is not known if there are several.

        A place that is no hole, and not among the last that move, keeps its holder in every
        order.  Holes that one survivor alone can have moved into are certain as well.
        """
        gone = [cookie for cookie in cookies if cookie in self._order]
        if not gone:
            return
        holes = {place for place, cookie in enumerate(self._order) if cookie in gone}
        length = len(self._order) - len(gone)
        survivors = [
            self._order[place] for place in range(length, len(self._order)) if place not in holes
        ]
        open_places = [place for place in range(length) if place in holes]
        for place in open_places:
            self._order[place] = survivors[0] if len(survivors) == 1 else None
        # One survivor can have moved more than once only through holes, and ends in the one
        # that is left; two or more may have taken each other's.
        del self._order[length:]

    def reconcile(self, seen: Collection[int]) -> tuple[tuple[int, ...], int]:
        """Compare with the members there are now: (who left, how many strangers joined).

        A single stranger is given the last place; several may stand there in any order, so
        their places are taken and not named.
        """
        known = [cookie for cookie in self._order if cookie is not None]
        left = tuple(cookie for cookie in known if cookie not in seen)
        if left:
            self.left(*left)
        unnamed = len(seen) - len(self._order)
        if unnamed > 0:
            strangers = [cookie for cookie in seen if cookie not in known]
            if len(strangers) == 1 == unnamed:
                self._order.append(strangers[0])
            else:
                self._order += [None] * unnamed
        elif unnamed < 0:
            # Members we had no name for have left: what moved into their places is unknown
            # except where no last place can have gone.
            self._forget(-unnamed)
        return left, max(0, unnamed)

    def _forget(self, count: int) -> None:
        length = max(0, len(self._order) - count)
        moved = [cookie for cookie in self._order[length:] if cookie is not None]
        nameless = [place for place in range(length) if self._order[place] is None]
        if len(moved) == 1 == len(nameless):
            self._order[nameless[0]] = moved[0]
        del self._order[length:]
