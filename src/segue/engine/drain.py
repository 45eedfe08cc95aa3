"""The engine without privileges: new connections steered by classic BPF, old ones waited for.

Works on any kernel since 4.6.  It has no influence on migration, so a listener may be closed only
when nothing waits in it.  The supervisor keeps its descriptor until then.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from segue.address import Address
from segue.engine import classic_program, own_member
from segue.engine.find_index import find_index
from segue.engine.index_order import IndexOrder
from segue.engine.own_member import OwnMember
from segue.errors import KernelError, UsageError
from segue.linux import cbpf, sockopt
from segue.linux.sock_diag import Entry, SockDiag
from segue.shares import quotas


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What all members of one group have in common, and can be looked up by."""

    address: Address
    interface: int
    v6only: bool | None

    @classmethod
    def of(cls, listener: socket.socket) -> GroupKey:
        """Where this listener is.  Raises UsageError when it does not listen, KernelError."""
        address = sockopt.local_address(listener)
        mine = sockopt.cookie(listener)
        with SockDiag() as diag:
            for entry in diag.listeners(address.port, address.family):
                if entry.cookie == mine:
                    return cls(address, entry.interface, entry.v6only)
        raise UsageError(f"the socket at {address} does not listen")

    def look(self) -> list[int]:
        """Cookies of the members, in order of listen(2).  Raises KernelError."""
        with SockDiag() as diag:
            entries = diag.listeners(self.address.port, self.address.family)
        found = [entry.cookie for entry in entries if self._has(entry)]
        # __inet_hash puts a listener at the head of its bucket, but an IPv6 one with SO_REUSEPORT
        # at the tail, and a dump walks from the head.
        return found if self.address.family == socket.AF_INET6 else found[::-1]

    def _has(self, entry: Entry) -> bool:
        mine = (self.address.host, self.interface, self.v6only)
        return (entry.host, entry.interface, entry.v6only) == mine


@dataclass(frozen=True, slots=True)
class _Member:
    listener: socket.socket
    cookie: int


@dataclass(frozen=True, slots=True)
class _Oddities:
    """What a caller should hear of, by cookie."""

    strangers: frozenset[int] = frozenset()
    shut: frozenset[int] = frozenset()
    adrift: frozenset[int] = frozenset()


class Drain:
    """Steering of one group; of its own it holds a socket that keeps a source port."""

    name = "drain"
    migrates = False
    weighs = True

    def __init__(self) -> None:
        self._order = IndexOrder()
        self._key: GroupKey | None = None
        self._members: dict[int, _Member] = {}
        self._weights: dict[int, float] = {}
        self._pins: dict[int, int] = {}
        self._attached = False  # a program of ours, that names indexes, is in force
        self._not_found: frozenset[int] = frozenset()  # adrift, and looked for in vain
        self._reported = _Oddities()
        self._left: set[int] = set()  # by cookie: listeners that left, and may be open elsewhere
        self._reserved: socket.socket | None = None  # so that its port is nobody else's
        self._own: tuple[int, int] | None = None  # that port and an index, in force

    def join(self, slot: int, listener: socket.socket) -> None:
        """As in Steering, for any listener of the group, whoever opened it and when.

        Raises UsageError also when it does not listen, or at another address than the others.
        """
        if slot in self._members:
            raise UsageError(f"slot {slot} has a listener already")
        key = GroupKey.of(listener)
        if self._members and key != self._key:
            raise UsageError(f"the socket at {key.address} is in another group than the rest")
        self._key = key
        self._members[slot] = _Member(listener, sockopt.cookie(listener))
        try:
            self._look()
            self._refresh()
        except BaseException:
            del self._members[slot]
            raise

    def share(self, weights: Mapping[int, float]) -> None:
        """As in Steering.  The flip is one setsockopt, which replaces the program."""
        strangers = sorted(slot for slot in weights if slot not in self._members)
        if strangers:
            raise UsageError(f"slot {strangers[0]} has no listener, so it can have no share")
        quotas(weights)  # refuses senseless weights before anything changes
        self._weights = {slot: weight for slot, weight in weights.items() if weight > 0}
        self._attach()

    def pin(self, port: int, slot: int) -> None:
        """As in Steering.  Raises UsageError for a slot that has not joined, and for no port."""
        if slot not in self._members:
            raise UsageError(f"slot {slot} has no listener, so port {port} cannot be pinned to it")
        if not 0 < port < 65536:
            raise UsageError(f"a port must be between 1 and 65535 (got {port})")
        self._pins[port] = slot
        self._attach()

    def unpin(self, port: int) -> None:
        """As in Steering."""
        if self._pins.pop(port, None) is not None:
            self._attach()

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        """As in Steering.  A member that listens again stands last."""
        if slot not in self._members:
            raise UsageError(f"slot {slot} never joined")
        again = _Member(listener, sockopt.cookie(listener))
        self._order.left(self._members[slot].cookie)
        self._order.joined(again.cookie)
        self._members[slot] = again
        self._look()
        # The only member of a group loses the program when it is shut down.
        self._attach()

    def leave(self, slot: int, listener: socket.socket, *, end: bool = False) -> None:
        """As in Steering.  Ours must be the last descriptor of the listener, or it must ``end``.

        From the close to the next program the last member is where the leaving one was, and its
        old index is beyond the end, which leaves its share to the kernel's hash over everybody.
        So it steps aside first: its share is the others' for that moment, if there are others.
        """
        with listener:
            member = self._members.pop(slot, None)
            if member is None:
                return
            self._left.add(member.cookie)
            self._weights.pop(slot, None)
            self._pins = {port: to for port, to in self._pins.items() if to != slot}
            last = len(self._order.order) - 1
            moves = self._order.index(member.cookie) != last
            self._attach(aside=last if moves else None, through=listener)
            if not self.migrates:
                # What the hash may still send here is not answered, so that it tries again
                # elsewhere; answered, it would be reset in a moment.  Not every user may do this.
                with contextlib.suppress(KernelError):
                    cbpf.attach_filter(listener, classic_program.drop_all())
            if end:
                sockopt.stop_listening(listener)
        self._look()
        self._refresh()

    def refuse(self, listeners: Sequence[socket.socket]) -> bool:
        """As in Refusing.  Classic BPF cannot refuse, so a SYN is dropped at each listener.

        Not every user may do this, and nobody where the filter is locked.
        """
        try:
            for listener in listeners:
                cbpf.attach_filter(listener, classic_program.drop_syn())
        except KernelError as error:
            if error.errno != errno.EPERM:
                raise
            return False
        return True

    def order(self) -> list[int]:
        """As in IndexAddressed; those whose index is not certain are negative."""
        return self._order.record()

    def adopt_order(self, order: Sequence[int]) -> None:
        """As in IndexAddressed.  The members join again after it, and keep their indexes."""
        self._order = IndexOrder(order)

    def attach(self, listener: socket.socket) -> None:
        """As in Steering.  Nothing before the first share."""
        if self._weights or self._pins:
            self._attach(by=listener)

    def look_after(self, own: OwnMember) -> bool | None:
        """As in Steering, by what the program in force does with a port of ours.  Raises OSError,
        KernelError.
        """
        if self._own is None or self._key is None:
            return None
        # The last index must be our member's, and the port one that the hash would not send there:
        # after members came or went it may be another.
        known = (own.port, len(self._key.look()) - 1) == self._own
        found = own.reached(lambda: self.attach(own.listener)) if known else None
        # A port is used once: the next time it would show its TIME_WAIT.
        self._forget_port()
        self._reserved = own.spare()
        self.attach(own.listener)
        return found

    def _forget_port(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    @property
    def own_port(self) -> int:
        """As in Steering: the one that the program in force knows."""
        return self._own[0] if self._own else 0

    def check(self, cookies: Collection[int]) -> list[str]:
        """As in IndexAddressed: which members joined or left without us, or have no certain index.

        Where ``cookies`` are not those we know, a look of our own decides: the caller's may be
        older than the last change, or take in another group at the same address.
        """
        if self._key is None:
            return []
        if set(cookies) != self._order.members:
            self._look()
            self._refresh()
        self._left &= self._order.members
        before, self._reported = self._reported, self._oddities()
        where = self._key.address
        joined = len(self._reported.strangers - before.strangers)
        left = len(before.strangers - self._reported.strangers)
        shut = len(self._reported.shut - before.shut)
        said = [
            *[f"a listener that is not ours joined {where}: it gets no new connections"] * joined,
            *[f"a listener that is not ours left {where}"] * left,
            *[f"a worker shut its listener at {where} down: it gets no new connections"] * shut,
        ]
        if self._reported.adrift - before.adrift:
            # Where no index is certain there is nobody to select, and the program passes.
            everybody = self._reported.adrift >= self._order.members
            what = (
                "the kernel's hash chooses among them"
                if everybody
                else "they get no new connections"
            )
            said.append(
                f"the kernel's index of {len(self._reported.adrift)} listener(s) at {where} is not"
                f" certain: {what} until the next restart"
            )
        return said

    def close(self) -> None:
        """As in Steering."""
        self._members.clear()
        self._forget_port()

    # The picture

    def _oddities(self) -> _Oddities:
        ours = {member.cookie for member in self._members.values()}
        seen = self._order.members
        return _Oddities(
            seen - ours - self._left, frozenset(ours - seen), self._order.adrift & ours
        )

    def _look(self) -> None:
        """Bring the picture up to date; ask the kernel for each index that is uncertain."""
        assert self._key
        self._order.reconcile(self._key.look(), oldest_first=True)
        adrift = self._order.adrift
        ours = {member.cookie: member.listener for member in self._members.values()}
        # A stranger among them would get a connection out of the blue; and what could not be
        # found a moment ago is not looked for again and again.
        if adrift - ours.keys() or adrift == self._not_found:
            return
        asked = {cookie: ours[cookie] for cookie in adrift}
        for cookie, index in self._find_indexes(asked).items():
            if cookie in self._order.adrift:
                self._order.found(cookie, index)
        self._not_found = self._order.adrift

    def _find_indexes(self, asked: Mapping[int, socket.socket]) -> dict[int, int]:
        if not asked or self._key is None:
            return {}

        def pin(port: int, index: int) -> None:
            self._attach(knock={port: index})

        return find_index(self._key.address, asked, self._order.doubtful, pin)

    # The program

    def _refresh(self) -> None:
        """After a change of indexes: a program that names indexes is made anew."""
        if self._weights or self._pins or self._attached:
            self._attach()

    def _attach(
        self,
        *,
        aside: int | None = None,
        knock: Mapping[int, int] | None = None,
        by: socket.socket | None = None,
        through: socket.socket | None = None,
    ) -> None:
        """Attach the program of this moment, which does not name the index ``aside``.

        It is attached ``by`` this one of the group, or by one of ours, ``through`` being the last.
        """
        indexes = {
            slot: index
            for slot, member in self._members.items()
            if (index := self._order.index(member.cookie)) is not None
        }
        able = {slot: weight for slot, weight in self._weights.items() if slot in indexes}
        others = {slot: weight for slot, weight in able.items() if indexes[slot] != aside}
        entries = quotas(others or able) if able else {}
        shares = {indexes[slot]: count for slot, count in entries.items()}
        pins = {port: indexes[slot] for port, slot in self._pins.items() if slot in indexes}
        pins |= knock or {}
        members = [member.listener for member in self._members.values()]
        last = [through] if through else []
        for listener in [by] if by else [*members, *last]:
            # Through one that does not listen the program would not reach the group.
            if sockopt.is_listening(listener):
                own = self._own_end(listener) if shares else None
                program = classic_program.steer(shares, pins, own)
                with own_member.able(listener) as member:
                    cbpf.attach_reuseport(member, program)
                self._attached, self._own = bool(shares or pins), own
                return

    def _own_end(self, listener: socket.socket) -> tuple[int, int] | None:
        """A source port of ours, and the index behind the last, where a new member would be."""
        if self._reserved is None:
            with contextlib.suppress(OSError):
                self._reserved = own_member.bound(sockopt.local_address(listener), 0)
        if self._reserved is None:
            return None
        return self._reserved.getsockname()[1], len(self._order.order)
