"""One group of foreign listeners under our program: its members and their shares.

Listeners come and go with their servers.  Each is put into the program's table of sockets as soon
as it is seen, without a share.  From then on the table decides what it gets, and not the kernel's
hash, unless no other listener is left.  It gets a share when it is ready, by its generation.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from segue.address import Address
from segue.engine.audit import Mismatch
from segue.engine.duplicate import duplicate
from segue.engine.generations import Generations
from segue.engine.migrate import Migrate
from segue.errors import KernelError, NotSupported, UsageError
from segue.group import Listener
from segue.linux import proc
from segue.linux.sockopt import defers
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer, Part
from segue.policy.builtin import SLOTS
from segue.policy.counts import Counts
from segue.shares import by_generation

# If no listener comes or goes for so long, as many are wanted as serve now.  This is longer than a
# service is away when it is stopped and started, so that a worker that comes back finds its seat.
SETTLED = 60.0
# A listener that could not be added is tried again this much later: each try looks at every
# process.
_AGAIN = 10.0
# A listener that counts as ready at once has its server so much later, if its parent starts that.
_STARTED = 1.0
_NEAR = 256  # processes of one server in which a listener's owner is looked for first


Kin = tuple[int, int, bool | None]  # uid, interface, V6ONLY: equal within a group


@dataclass(slots=True)
class AttachedListener:
    """A listener that is in the program's table; ``slot`` is its place there."""

    cookie: int
    slot: int
    generation: int
    since: float
    ready: bool
    missing: str = ""  # the proof of readiness that it lacked at the last look


@dataclass(slots=True)
class Attached:
    """The members of one group and their shares.  The steering is the caller's to close.

    ``rule`` and ``generations`` say which listeners belong together.  ``canary`` is the percentage
    that each new generation gets until it is shifted; with None the newest comes first.
    """

    address: Address
    observer: Observer
    steering: Migrate
    rule: Rule
    generations: Generations
    canary: float | None = None
    differences: tuple[Mismatch, ...] = ()  # options in which the first listeners differed
    proven: bool = True  # newcomers must accept a connection before they get a share
    members: dict[int, AttachedListener] = field(default_factory=dict)  # by cookie
    percent: dict[int, float] = field(default_factory=dict)  # by generation, as it was shifted
    factors: dict[int, float] = field(default_factory=dict)  # by cookie
    strength: int = 0  # how many listeners served when things were settled
    gone: Counts = field(default_factory=Counts)  # of listeners that are no more
    weights: dict[int, float] = field(default_factory=dict)  # in force, by slot
    entitled: frozenset[int] = frozenset()  # slots that have a share unless their owner stalls
    stalled: frozenset[int] = frozenset()  # cookies
    trusted: frozenset[int] = frozenset()  # cookies of newcomers that count as ready
    # Listeners as they came, by cookie, until their generation is asked for again: another process
    # may serve by them than the one that opened them.
    opened: dict[int, Listener] = field(default_factory=dict)
    _seen: frozenset[int] = frozenset()
    _changed: float = 0.0
    _owners: frozenset[int] = frozenset()  # of members, as they were at the last ``borrow``
    _masters: frozenset[int] = frozenset()  # the parents of these
    _again: dict[int, float] = field(
        default_factory=dict
    )  # listeners that are left alone, until when

    # Members

    def begin(self, taken: Mapping[Listener, socket.socket], now: float) -> None:
        """Add the listeners that are there when we come; each counts as ready.

        Attaches the program.  Raises KernelError.
        """
        for listener, generation in self._numbered(taken):
            self._join(listener, taken[listener], generation, now, ready=True)
        self._know(taken)
        self.strength, self._changed = len(self.members), now
        self._reshare()

    def look(self, now: float, *, thorough: bool) -> list[str]:
        """Follow what came and went since the last look.  Returns what to log, in sentences.

        ``thorough`` also asks the kernel which members it has taken out of the table.  Raises
        KernelError when the listeners cannot be listed.
        """
        said: list[str] = []
        if thorough or self.observer.queued(self.address).keys() != self._seen:
            listening = {one.cookie: one for one in self.observer.snapshot(self.address).listeners}
            before = set(self.members)
            self._seen = frozenset(listening)
            self._drop(self.members.keys() - listening.keys())
            self._again = {one: when for one, when in self._again.items() if one in listening}
            unknown = [one for one in listening.keys() - before if now >= self._again.get(one, now)]
            kin = {_kin(listening[one]) for one in self.members}
            # Also those that an earlier ``segue attach`` took in.
            starting = [cookie for cookie, one in self.members.items() if not one.ready]
            self.opened = {one: listening[one] for one in starting} | self.opened
            if thorough:
                self._number_again(
                    one
                    for one in list(self.opened)
                    if self.members[one].ready and now > self.members[one].since + _STARTED
                )
            said += self._admit([listening[one] for one in unknown], kin, now)
            if thorough:
                self._put_back(listening)
            if before != set(self.members):
                self._changed = now
            if now > self._changed + SETTLED:
                self._settle()
            self._reshare()
        return said

    def _settle(self) -> None:
        """Forget listeners that are gone for so long; as many are wanted as have a share now."""
        numbers = self._numbers()
        self.generations.keep(numbers)
        self.percent = {one: part for one, part in self.percent.items() if one in numbers}
        split = len(numbers) > 1 and numbers[-1] in self.percent
        if self.entitled and not split:
            self.strength = len(self.entitled)

    def _numbered(self, listeners: Iterable[Listener]) -> list[tuple[Listener, int]]:
        """With the generation of each, in the order in which their servers were started."""
        origins = [(self.rule.origin(one.owners), one) for one in listeners]
        there = [(origin, one) for origin, one in origins if origin is not None]
        there.sort(key=lambda pair: (pair[0].started, pair[1].cookie))
        return [(one, self.generations.number(origin)) for origin, one in there]

    def _admit(self, newcomers: list[Listener], kin: set[Kin], now: float) -> list[str]:
        said: list[str] = []
        if not newcomers:
            return said
        owned = self._owned(newcomers, self._masters)
        hidden = [one for one in owned if not one.owners]
        for listener, generation in self._numbered(owned):
            try:
                kin = kin or {_kin(listener)}
                why = "" if _kin(listener) in kin else "it is of another reuseport group"
                why = why or self._take_in(listener, generation, now)
            except (KernelError, NotSupported) as error:
                why = str(error)
            if why:
                said += self._leave_alone(listener, why, now)
        for listener in hidden:
            said += self._leave_alone(listener, "no process can be seen that has it", now)
        return said

    def _take_in(self, listener: Listener, generation: int, now: float) -> str:
        """Add it.  Returns why it is left alone; "" if it was added, or is gone."""
        taken = duplicate(listener)
        if taken is None:
            return ""
        with taken:
            if self.steering.steered_by_another(taken):
                return "another program has it in its table"
            # A listener that waits for data shows no connection without any (TCP_DEFER_ACCEPT).
            ready = defers(taken) or not self.proven
            self._join(listener, taken, generation, now, ready=ready)
            # A server that attaches a program of its own does so with each listener it opens.
            self.steering.attach(taken)
        self.opened[listener.cookie] = listener
        self._begin_canary(generation)
        return ""

    def _begin_canary(self, generation: int) -> None:
        if self.canary is not None and len(self._numbers()) > 1:
            self.percent.setdefault(generation, self.canary)

    def _number_again(self, cookies: Iterable[int]) -> None:
        """Ask once more whose these are, now that they serve.

        A parent may open a listener and start its server afterwards: what was seen in between had
        the parent's origin, and so the generation of the old servers.
        """
        opened = [self.opened.pop(one) for one in cookies if one in self.opened]
        if not opened:
            return
        first = {pid for one in opened for pid in one.owners if pid > 1}
        for listener, generation in self._numbered(self._owned(opened, first)):
            self.members[listener.cookie].generation = generation
            self._begin_canary(generation)

    def _join(
        self, listener: Listener, taken: socket.socket, generation: int, now: float, *, ready: bool
    ) -> None:
        used = {one.slot for one in self.members.values()}
        slot = next((one for one in range(SLOTS) if one not in used), None)
        if slot is None:
            raise NotSupported(f"attaching to {self.address}", f"at most {SLOTS} listeners", "more")
        self.steering.join(slot, taken)
        self.members[listener.cookie] = AttachedListener(
            listener.cookie, slot, generation, now, ready
        )

    def _leave_alone(self, listener: Listener, why: str, now: float) -> list[str]:
        known = listener.cookie in self._again
        self._again[listener.cookie] = now + _AGAIN
        if known:
            return []
        who = proc.describe(listener.owners) or "an unknown process"
        return [f"a listener of {who} is left alone: {why}"]

    def _drop(self, cookies: Iterable[int]) -> None:
        for cookie in list(cookies):
            member = self.members.pop(cookie)
            self.opened.pop(cookie, None)
            self.gone += self.steering.counted(member.slot)
            self.steering.forget(member.slot)
            self.weights.pop(member.slot, None)
            self.factors.pop(cookie, None)

    def _put_back(self, listening: Mapping[int, Listener]) -> None:
        """Members that were shut down and listen again: out of the table, by the kernel's rule."""
        there = self.steering.cookies()
        for cookie, member in self.members.items():
            if there.get(member.slot) == cookie:
                continue
            (found,) = self._owned([listening[cookie]], self._masters)
            taken = duplicate(found)
            if taken is not None:
                with taken:
                    self.steering.rejoin(member.slot, taken)

    def borrow(self) -> socket.socket | None:
        """A duplicate of a member's listener, the caller's to close; None when all have gone.

        Those that had one the last time are asked first: to look at every process takes long.
        """
        for known in (self._owners, frozenset[int]()):
            parts = () if known else (Part.OWNERS,)
            group = self.observer.snapshot(self.address, *parts, pids=known)
            ours = [one for one in group.listeners if one.cookie in self.members and one.owners]
            self._know(ours)
            for listener in ours:
                if (taken := duplicate(listener)) is not None:
                    return taken
        return None

    def _know(self, listeners: Iterable[Listener]) -> None:
        self._owners = frozenset(pid for one in listeners for pid in one.owners)
        parents = {proc.parent(pid) for pid in self._owners}
        # Everybody's forefather is no server.
        self._masters = frozenset(one for one in parents if one is not None and one > 1)

    def _owned(self, listeners: Collection[Listener], first: Iterable[int]) -> list[Listener]:
        """These with the processes that have them, which are looked for below ``first`` first.

        A server's workers mostly have one parent.  Until they are found, a newcomer gets nothing,
        and among all processes that takes tens of milliseconds.
        """
        inodes = {one.inode for one in listeners}
        near = {pid for one in first for pid in proc.tree(one, _NEAR)}
        found = proc.owners(inodes, near)
        if inodes - found.keys():
            found |= proc.owners(inodes - found.keys())
        return [replace(one, owners=found.get(one.inode, ())) for one in listeners]

    # Shares

    def set_ready(self, cookie: int) -> None:
        """It accepts: it may have a share."""
        if cookie in self.members:
            self.members[cookie].ready = True
            self._number_again([cookie])
            self._reshare()

    def shift(self, percent: float) -> int:
        """Give the newest generation this part of new connections, until it is shifted again.

        Returns its number.  Raises UsageError if there is no older generation to have the rest.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"a share must be between 0 and 100 percent (got {percent:g})")
        numbers = self._numbers()
        if len(numbers) < 2:
            raise UsageError(
                "there is one generation only, which gets everything: start the new servers first,"
                " or let the next generation begin with less (segue attach --canary PERCENT)"
            )
        self.percent[numbers[-1]] = percent
        self._reshare()
        return numbers[-1]

    def pass_over(self, stalled: Iterable[int]) -> None:
        """Give just these listeners nothing new, as long as another one has a share."""
        before, self.stalled = self.stalled, frozenset(stalled)
        if before != self.stalled:
            self._reshare()

    def weigh(self, factors: Mapping[int, float]) -> None:
        """Multiply the shares of these slots; 1 changes nothing.  Other slots keep their factor.

        Raises UsageError, with nothing changed, for a slot that has no listener.
        """
        by_slot = {one.slot: one.cookie for one in self.members.values()}
        for slot in factors:
            if slot not in by_slot:
                known = ", ".join(f"worker{one}" for one in sorted(by_slot))
                raise UsageError(f"there is no worker{slot} (there are {known or 'none'})")
        self.factors |= {by_slot[slot]: factor for slot, factor in factors.items()}
        self._reshare()

    def trust(self, newcomers: frozenset[int]) -> None:
        """Count just these as ready, by cookie, until they are or are trusted no more."""
        before, self.trusted = self.trusted, newcomers
        if before != newcomers:
            self._reshare()

    def _numbers(self) -> list[int]:
        return sorted({one.generation for one in self.members.values()})

    def _by_generation(self) -> dict[int, list[int]]:
        """Slots of the ready members by generation, oldest first; of all if none is ready."""
        everyone = sorted(self.members.values(), key=lambda one: (one.generation, one.slot))
        found: dict[int, list[int]] = {}
        able = [one for one in everyone if one.ready or one.cookie in self.trusted]
        for one in able or everyone:
            found.setdefault(one.generation, []).append(one.slot)
        return found

    def _reshare(self) -> None:
        found = self._by_generation()
        if not found:
            self.entitled = frozenset()
            return
        newest = max(found)
        # One that was rolled back is out of the running, also beside a newer one; so is a canary
        # that was not promoted before the next came.
        wanted = {
            number: slots
            for number, slots in found.items()
            if self.percent.get(number, 100.0) >= (100.0 if number != newest else 1e-9)
        } or found
        factors = {
            self.members[cookie].slot: factor
            for cookie, factor in self.factors.items()
            if cookie in self.members
        }
        percent = self.percent.get(newest) if newest in wanted else None
        weights = by_generation(list(wanted.values()), self.strength, percent, factors)
        self.entitled = frozenset(slot for slot, weight in weights.items() if weight > 0)
        asleep = {self.members[one].slot for one in self.stalled & self.members.keys()}
        if asleep & self.entitled:
            weights = by_generation(list(wanted.values()), self.strength, percent, factors, asleep)
        weights = {slot: weight for slot, weight in weights.items() if weight > 0}
        if weights != self.weights:
            self.steering.share(weights)
            self.weights = weights

    # Over a restart of ours

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "objects": self.steering.identities(),
            "members": [asdict(one) for one in self.members.values()],
            "generations": self.generations.to_json(),
            "percent": self.percent,
            "factors": self.factors,
            "strength": self.strength,
            "gone": asdict(self.gone),
        }

    def restore(self, plain: Mapping[str, Any], now: float) -> None:
        """Go on where ``to_json`` stood, with the slots that the steering still has.

        Raises KeyError, TypeError, ValueError, AttributeError or OverflowError on foreign data,
        with nothing changed.
        """
        percent = {int(one): _number(part) for one, part in plain["percent"].items()}
        factors = {int(cookie): _number(one) for cookie, one in plain["factors"].items()}
        strength = _count(plain["strength"])
        gone = Counts(**{name: _count(one) for name, one in plain["gone"].items()})
        members = [
            AttachedListener(
                cookie=_count(one["cookie"]), slot=_count(one["slot"]),
                generation=_count(one["generation"]), since=now, ready=one["ready"] is True,
            )
            for one in plain["members"]
        ]  # fmt: skip
        self.generations.restore(plain["generations"])
        self.percent, self.factors, self.strength, self.gone = percent, factors, strength, gone
        self._changed = now
        there = self.steering.cookies()
        for member in members:
            if there.get(member.slot) == member.cookie:
                self.members[member.cookie] = member
            else:
                self.gone += self.steering.counted(member.slot)
        self._reshare()

    def forget_others(self) -> None:
        """Take every listener that is not a member out of the table: the next look adds it again.

        That is any listener that came after the last record, or every one without a record.
        """
        kept = {one.slot for one in self.members.values()}
        for slot in self.steering.cookies().keys() - kept:
            self.steering.forget(slot)


def _kin(listener: Listener) -> Kin:
    """What the kernel wants equal within a group (inet_reuseport_add_sock)."""
    return listener.uid, listener.interface, listener.v6only


def _count(value: Any) -> int:
    """Of a record.  Raises TypeError or ValueError for what is no count."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _number(value: Any) -> float:
    """Of a record.  Raises TypeError, ValueError or OverflowError for what is none."""
    found = float(value)
    if not 0 <= found < float(1 << 64):
        raise ValueError(f"{value!r:.40} is not a weight")
    return found
