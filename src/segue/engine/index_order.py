"""Which listener has which index in a reuseport group, as far as that can be known.

Classic BPF names a member by its index in the kernel's array (net/core/sock_reuseport.c): a new
one goes to the end, and when one leaves, the last moves into the hole.  Nobody can read that
array, so a picture of it is kept here, from what is seen to come and go.  Where several orders of
events would explain what was seen, an index is not known, and said to be None.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from segue.errors import UsageError


@dataclass(frozen=True, slots=True)
class Changes:
    """Who came and who went between two looks, by cookie."""

    joined: tuple[int, ...] = ()
    left: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Anything at all."""
        return bool(self.joined or self.left)


class IndexOrder:
    """The picture: a listener's cookie at each index, or that it is one of those adrift.

    What is said is never wrong, provided that every look is complete.
    """

    def __init__(self, places: Iterable[tuple[int, int | None]] = ()) -> None:
        """Begin empty, or with the picture that ``to_list`` gave."""
        given = list(places)
        self._places: list[int | None] = [None] * len(given)
        self._adrift: set[int] = set()  # members at the indexes whose entry is None
        for cookie, index in given:
            if index is None:
                self._adrift.add(cookie)
            else:
                self._places[index] = cookie

    def __len__(self) -> int:
        return len(self._places)

    @property
    def members(self) -> frozenset[int]:
        """Every listener in the group."""
        return frozenset(one for one in self._places if one is not None) | self._adrift

    @property
    def adrift(self) -> frozenset[int]:
        """Members whose index is not known."""
        return frozenset(self._adrift)

    @property
    def open_indexes(self) -> tuple[int, ...]:
        """The indexes at which those adrift are."""
        return tuple(index for index, one in enumerate(self._places) if one is None)

    def index(self, cookie: int) -> int | None:
        """Its index, or None when it is adrift or no member."""
        return self._places.index(cookie) if cookie in self._places else None

    def appended(self, *cookies: int) -> None:
        """These began to listen, in this order.  Raises UsageError for one that does already."""
        for cookie in cookies:
            if cookie in self.members:
                raise UsageError(f"listener {cookie} is in the group already")
            self._places.append(cookie)

    def removed(self, cookies: Collection[int]) -> None:
        """These left, in an order that nobody saw; those that are no members are ignored.

        A member moves only when it is the last, so whoever has an index below the new size stays.
        The holes go to the others: to the only one surely, to several in an order not known.
        """
        gone = self.members.intersection(cookies)
        self._keep(len(self) - len(gone), gone, self.members - gone)

    def cycled(self, cookie: int) -> None:
        """It was shut down and listens again, and nothing else happened: it is the last now."""
        self.removed([cookie])
        self.appended(cookie)

    def verify(
        self,
        seen: Sequence[int] | frozenset[int],
        *,
        oldest_first: bool = False,
        cycled: frozenset[int] = frozenset(),
    ) -> Changes:
        """Compare with who listens now, all of them, and take over what has changed.

        ``oldest_first`` says that ``seen`` is in order of listen(2), which tells newcomers apart.
        ``cycled`` were shut down since the last look and listen again.
        """
        now = frozenset(seen)
        left = tuple(sorted(self.members - now))
        joined = tuple(one for one in seen if one not in self.members)
        again = cycled & now & self.members
        changes = Changes(joined, left)
        if again and not changes and len(again) == 1:
            self.cycled(*again)
        elif again or (left and joined):
            # Whatever the order of events was, there were never fewer than this.
            least = len(self) - len(left) - len(again)
            self._keep(least, again.union(left), now, size=len(now))
        elif left:
            self.removed(left)
        elif oldest_first or len(joined) == 1:
            self.appended(*joined)
        else:
            self._places += [None] * len(joined)
            self._adrift.update(joined)
        return changes

    def found(self, cookie: int, index: int) -> None:
        """A member adrift was found at an open index.  Raises UsageError when it cannot be."""
        if cookie not in self._adrift or index not in self.open_indexes:
            raise UsageError(f"listener {cookie} cannot be at index {index}")
        self._places[index] = cookie
        self._adrift.discard(cookie)
        self._deduce()

    def to_list(self) -> list[tuple[int, int | None]]:
        """(cookie, index) of every member: what ``IndexOrder`` begins with."""
        known: list[tuple[int, int | None]] = [
            (cookie, index) for index, cookie in enumerate(self._places) if cookie is not None
        ]
        return known + [(cookie, None) for cookie in sorted(self._adrift)]

    def _keep(
        self, sure: int, moved: frozenset[int], members: frozenset[int], size: int | None = None
    ) -> None:
        """Members below ``sure`` stay, unless they are among the moved; the rest is adrift."""
        kept = [one if one not in moved else None for one in self._places[:sure]]
        self._places = kept + [None] * ((sure if size is None else size) - len(kept))
        self._adrift = set(members.difference(one for one in kept if one is not None))
        self._deduce()

    def _deduce(self) -> None:
        if len(self._adrift) == 1:
            self._places[self._places.index(None)] = self._adrift.pop()
