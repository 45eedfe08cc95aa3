"""Our picture of the order in which the kernel keeps a group's members.

Classic BPF names a member by its index in ``sock_reuseport.socks``: listen() appends, and when a
member leaves the last one moves into its hole (__reuseport_detach_sock).  The kernel does
not show this order, so it is derived here from the listeners that come and go.  If several courses
of events would explain what was seen, an index is uncertain, and its holder is None.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from segue.errors import UsageError


class IndexOrder:
    """Cookies by index.  A member whose index is not known is *adrift*.

    An index that is known is right, on two conditions: every look that ``reconcile`` gets is
    complete, and only we shut a listener down and make it listen again in between.
    """

    def __init__(self, record: Iterable[int] = ()) -> None:
        """Begin with what ``record`` gave, or with an empty group."""
        given = list(record)
        self._order: list[int | None] = [one if one > 0 else None for one in given]
        self._adrift = {-one for one in given if one < 0}
        self._looked()

    def _looked(self) -> None:
        # What is seen to have changed may have happened before or after our own changes, back to
        # the last look: these say which indexes our own changes make doubtful then.
        self._fewest = len(self._order)
        self._touched: set[int] = set()
        self._departed = False

    @property
    def order(self) -> tuple[int | None, ...]:
        """The whole picture."""
        return tuple(self._order)

    @property
    def members(self) -> frozenset[int]:
        """Everybody in the group, those adrift too."""
        return frozenset(one for one in self._order if one is not None) | self._adrift

    @property
    def adrift(self) -> frozenset[int]:
        """Members whose index is not certain."""
        return frozenset(self._adrift)

    @property
    def doubtful(self) -> tuple[int, ...]:
        """The indexes of those adrift."""
        return tuple(index for index, one in enumerate(self._order) if one is None)

    @property
    def last(self) -> int | None:
        """The member that moves when another one leaves; None while that is not certain."""
        return self._order[-1] if self._order else None

    def member(self, cookie: int) -> bool:
        """It is in the group, wherever."""
        return cookie in self._adrift or cookie in self._order

    def index(self, cookie: int) -> int | None:
        """The member's index, or None while it is not certain."""
        return self._order.index(cookie) if cookie in self._order else None

    def joined(self, *cookies: int) -> None:
        """These listened, in this order: they have the last indexes.

        Raises UsageError for one that is a member.
        """
        for cookie in cookies:
            if self.member(cookie):
                raise UsageError(f"listener {cookie} is in the group already")
            self._touched.add(len(self._order))
            self._order.append(cookie)

    def left(self, *cookies: int) -> None:
        """These left; if they are several, in an unknown order.

        A member moves only when it is the last, so a member below the new size stays where it is.
        The others fill the holes; if there is one other, it is certain where it went.
        """
        gone = self.members.intersection(cookies)
        if not gone:
            return
        before = self._order
        size = len(before) - len(gone)
        kept = [one if one not in gone else None for one in before[:size]]
        self._settle(kept, size, self.members - gone)
        changed = (index for index, one in enumerate(self._order) if one != before[index])
        self._touched.update(changed)
        self._fewest = min(self._fewest, size)
        self._departed = True

    def found(self, cookie: int, index: int) -> None:
        """One that was adrift is at this index.  Raises UsageError when it cannot be."""
        if cookie not in self._adrift or index not in self.doubtful:
            raise UsageError(f"listener {cookie} cannot have index {index}")
        kept = list(self._order)
        kept[index] = cookie
        self._settle(kept, len(kept), self.members)

    def reconcile(
        self, seen: Collection[int], *, oldest_first: bool = False
    ) -> tuple[tuple[int, ...], int]:
        """Compare with the members there are now: (those that left, how many strangers joined).

        ``oldest_first`` says that ``seen`` is in the order of listen(2), by which newcomers can be
        told apart.
        """
        now = frozenset(seen)
        left = tuple(sorted(self.members - now))
        strangers = now - self.members
        if strangers and not left and oldest_first and not self._departed:
            # Nobody has moved since the last look: it was all appended, ours among it.
            self._order = self._order[: self._fewest]
            before = self.members
            self._order += [one for one in seen if one not in before]
        elif left or strangers:
            # Whatever happened when, there were never fewer than this.
            sure = self._fewest - len(left)
            kept = [
                one if one in now and index not in self._touched else None
                for index, one in enumerate(self._order[: max(0, sure)])
            ]
            self._settle(kept, len(now), now)
        self._looked()
        return left, len(strangers)

    def record(self) -> list[int]:
        """The picture as numbers: cookies by index, those adrift negative at the doubtful ones."""
        adrift = iter(sorted(self._adrift))
        return [one if one is not None else -next(adrift) for one in self._order]

    def _settle(self, kept: list[int | None], size: int, members: frozenset[int]) -> None:
        """Members that are kept have their indexes; the rest is adrift, unless only one is."""
        self._order = kept + [None] * (size - len(kept))
        self._adrift = set(members.difference(one for one in kept if one is not None))
        if len(self._adrift) == 1:
            self._order[self._order.index(None)] = self._adrift.pop()
