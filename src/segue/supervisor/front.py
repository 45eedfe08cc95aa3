"""One address of an instance: its steering and the listeners that the supervisor holds there.

A slot is the number of a listener in the steering.  Because the front keeps a descriptor, a crash
of the worker is harmless: the listener, its queue and its half-open requests stay.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from segue.address import Address
from segue.engine.cycle import CycleReport, cycle
from segue.engine.own_member import OwnMember
from segue.engine.steering import IndexAddressed, Refusing, Steering, counted_of, counts_of
from segue.errors import InternalError, KernelError, UsageError
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import (
    cookie,
    defers,
    is_listening,
    local_address,
    open_listener,
    stop_listening,
    takes_no_ipv4,
)
from segue.observe.snapshot import Observer
from segue.policy.counts import Counts
from segue.supervisor import inherited
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.settings import Bind

SLOTS = 1024  # as many as the steering's table of sockets has
STANDBY = SLOTS - 1  # the slot of a service manager's listener


@dataclass(slots=True)
class Front:
    """The steering and the held listeners of one bind; owns both."""

    number: int
    bind: Bind
    steering: Steering
    observer: Observer
    listen: Callable[..., socket.socket] = open_listener
    # What listeners at [::] have as IPV6_V6ONLY; None until there is one, if the system says.
    v6only: bool | None = None
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    shared: tuple[int, ...] = ()  # the slots that have a share
    restored: int = 0  # how often the program had to be put back
    gone: Counts = field(default_factory=Counts)  # of all slots that are gone
    # Listeners of other processes that serve until our first share, by slot, from the top.  The
    # sockets are closed here by then.
    incumbents: dict[int, socket.socket] = field(default_factory=dict)
    opened: set[int] = field(
        default_factory=set
    )  # cookies of all listeners that were ever held here
    # Cookies of listeners that were closed here -> the worker that had them last: others may have
    # inherited them.
    left: dict[int, str] = field(default_factory=dict)
    # The service manager's listener, and whether it is a member.  No worker has it.  It gets new
    # connections when no worker is to get them, and then they wait there.
    standby: socket.socket | None = None
    stored: bool = False  # the service manager only keeps it for us, and closes it when we say so
    _backlog: int = 0  # of that, which a worker that takes what waits there may change
    # Slots of listeners that are not held here and have TCP_DEFER_ACCEPT.
    deferring: set[int] = field(default_factory=set)
    asked: Address = field(init=False)  # what the settings say; workers may serve it elsewhere
    ours: Counter[int] = field(default_factory=Counter)  # questions to serving workers, by slot
    refusing: bool = False  # no new connection comes any more
    watch: Callable[[socket.socket], None] = lambda _: None  # called with each that is held

    def __post_init__(self) -> None:
        self.asked = self.bind.address

    def waits_for_data(self, slot: int) -> bool:
        """The listener in this slot shows no connection whose client is silent."""
        listener = self.sockets.get(slot)
        return slot in self.deferring if listener is None else defers(listener)

    def takers(self) -> list[socket.socket]:
        """The listeners of ours that have a share of new connections."""
        there = [self.sockets[slot] for slot in self.shared if slot in self.sockets]
        return [one for one in there if is_listening(one)]

    def find(self) -> bool:
        """Look where those listen who serve what was asked for, while nothing is held here.

        True if that is elsewhere than before.  Raises KernelError.
        """
        if self.sockets:
            return False
        before, where = self.bind.address, self.observer.serving(self.asked)
        self.bind = replace(self.bind, address=where)
        return where not in {before, self.asked}

    def borrow(self) -> socket.socket | None:
        """A duplicate of a serving listener, which the caller closes; None if there is none."""
        for listener in self.sockets.values():
            if is_listening(listener):
                # socket.dup() would set O_NONBLOCK as here, and this would change it for the worker
                # too.
                return socket.socket(fileno=os.dup(listener.fileno()))
        return None

    def look_after(self, member: socket.socket) -> bool:
        """Make sure that our program decides for this member's group.  True if it did not.

        Every process that has a member may remove the program.  It is put back also if we cannot
        tell whether it was removed.  Raises KernelError, OSError.
        """
        with OwnMember(member, self.steering.own_port) as own:
            found = self.steering.look_after(own)
            if found is None:
                self.steering.attach(own.listener)
        if found is False:
            self.restored += 1
        return found is False

    def open(self, *, backlog: int, nodelay: bool) -> HeldListener:
        """A new listener in the group with no share.  Raises KernelError."""
        made = self.listen(
            self.bind.address,
            backlog=backlog,
            nodelay=nodelay,
            v6only=self.v6only,
            like=self.standby,
        )
        held = self.adopt(made)
        if self.standby is not None and not self.shared:
            self.share({STANDBY: 1.0})
        return held

    def stand_by(self, listener: socket.socket) -> None:
        """Hold the service manager's listener, which gets new connections until the first share.

        The manager keeps it open too.  Raises KernelError.
        """
        if self.standby is not None:
            return  # a worker that was taken over had it
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            doing = f"setting SO_REUSEPORT on the service manager's listener at {self.bind.address}"
            raise KernelError("setsockopt", error.errno or 0, doing) from error
        self.bind = replace(self.bind, address=local_address(listener))
        self.v6only = takes_no_ipv4(listener)
        self.hold_standby(listener)
        if self.sockets:
            self._join_standby()

    def hold_standby(self, listener: socket.socket) -> None:
        """The service manager's listener is this one, which has the manager's backlog."""
        self.standby = listener
        self.watch(listener)
        info = info_of(listener)
        self._backlog = info.sacked if info else 0

    def _join_standby(self) -> None:
        """Once another listener is there: one that got SO_REUSEPORT late is in no group before."""
        if self.standby is not None and STANDBY not in self.sockets:
            self.steering.join(STANDBY, self.standby)
            self.sockets[STANDBY] = self.standby

    def keep(self, *, backlog: int, nodelay: bool) -> None:
        """Open a listener that a service manager can keep over our end.  Raises KernelError."""
        self.stand_by(
            self.listen(self.bind.address, backlog=backlog, nodelay=nodelay, v6only=self.v6only)
        )
        self.stored = True

    def end_stored(self) -> None:
        """Nobody listens with the kept one any more, even while the manager has it."""
        listener, self.standby, self.stored = self.standby, None, False
        if STANDBY in self.sockets:
            self.leave(STANDBY, ended=True)
        elif listener is not None:
            with listener:
                stop_listening(listener)

    @property
    def waiting(self) -> int:
        """How many wait in the service manager's listener that workers could take."""
        others = any(slot != STANDBY for slot in self.shared)
        if self.standby is None or not others or not is_listening(self.standby):
            return 0
        return info.unacked if (info := info_of(self.standby)) else 0

    def adopt(self, listener: socket.socket, slot: int | None = None) -> HeldListener:
        """Hold this listener, which the front then owns, in a slot without a share.

        In ``STANDBY`` it is the service manager's: a worker of an earlier supervisor has it.
        """
        if slot == STANDBY:
            if self.standby is None:
                self.hold_standby(listener)
            else:
                listener.close()
            self._join_standby()
            return HeldListener(self.number, slot, cookie(self.sockets[slot]))
        if slot is None:
            slot = next((one for one in range(SLOTS) if one not in self.sockets), None)
        if slot is None:
            listener.close()
            raise InternalError(f"{self.bind.address} has more than {SLOTS} listeners")
        try:
            self.steering.join(slot, listener)
        except BaseException:
            listener.close()
            raise
        self.hold(slot, listener)
        self.opened.add(cookie(listener))
        self._join_standby()
        return HeldListener(self.number, slot, cookie(listener))

    def hold(self, slot: int, listener: socket.socket) -> None:
        """Keep this descriptor; what is opened here later gets into the listener's group."""
        self.sockets[slot] = listener
        self.v6only = takes_no_ipv4(listener)
        self.watch(listener)

    def defer_to(self, incumbents: Sequence[socket.socket], *, backlog: int) -> None:
        """Give new connections to these listeners of other processes until the first ``share``.

        The caller keeps them and may close them, because a map holds no listener open.  Does
        nothing if the engine names members by index: then a descriptor must be kept while a
        listener lives. Raises KernelError: EADDRINUSE if we cannot join their group, EBUSY if a
        program that still runs steers them.
        """
        if not incumbents or isinstance(self.steering, IndexAddressed):
            return
        # A listener that got SO_REUSEPORT later is in no group and no map until another listener
        # joins (measured on 6.18).  Connections that the other one gets meanwhile migrate when it
        # closes.
        with open_listener(self.bind.address, backlog=backlog, v6only=self.v6only):
            for place, one in enumerate(incumbents):
                slot = SLOTS - 1 - place
                self.steering.join(slot, one)
                self.incumbents[slot] = one
            self.steering.share(dict.fromkeys(self.incumbents, 1.0))

    def share(self, weights: Mapping[int, float]) -> None:
        """Distribute new connections by these weights of slots from now on."""
        self.steering.share(weights)
        self.shared = tuple(slot for slot, weight in weights.items() if weight)
        self._let_incumbents_go()

    def _let_incumbents_go(self) -> None:
        for slot, one in self.incumbents.items():
            self.steering.leave(slot, one)
        self.incumbents.clear()

    def refuse(self) -> None:
        """From here on no new connection comes.  What came before is finished.

        Where a service manager holds the address, new ones wait there.  Does nothing if nobody
        listens here.  Raises KernelError, VerifierError.
        """
        if STANDBY in self.sockets:
            self.share({STANDBY: 1.0})
            return
        listening = [one for one in self.sockets.values() if is_listening(one)]
        if listening and isinstance(self.steering, Refusing):
            self.refusing = self.steering.refuse(listening)

    def leave(self, slot: int, *, worker: str = "", ended: bool = False) -> None:
        """Close our descriptor.

        If it was the last one, an engine that migrates moves the listener's connections.  If its
        ``worker`` has ended, a helper that has inherited the listener does not listen with it any
        more, unless connections wait there that nobody else can take.  The service manager's is not
        closed.
        """
        if slot == STANDBY and self.standby is not None:
            self.give_backlog(slot, lambda has: None if has == self._backlog else self._backlog)
            return
        listener = self.sockets.pop(slot, None)
        if listener is None:
            return
        self.shared = tuple(one for one in self.shared if one != slot)
        # However the rest goes, the listener is closed.
        with listener:
            if worker:
                self.left[cookie(listener)] = worker
            end = ended and inherited.may_end(listener, moves=self.moves)
            self.gone += counted_of(self.steering, slot) - Counts(new=self.ours.pop(slot, 0))
            self.steering.leave(slot, listener, end=end)

    @property
    def moves(self) -> bool:
        """What waits at a listener that is shut down moves to another one."""
        return self.steering.migrates and bool(self.shared)

    def move(
        self, slot: int, owners: Collection[int], same: Callable[[int], bool] = lambda _: True
    ) -> CycleReport | None:
        """Move the queue of this listener to listeners with a share, by shutdown and listen.

        Returns None and does nothing if the engine cannot migrate, if no other listener would take
        the connections (a cycle of the only member resets them), or if the worker has shut the
        listener down.  Raises KernelError if it cannot listen again.
        """
        listener = self.sockets.get(slot)
        others = [one for one in self.shared if one != slot and one in self.sockets]
        if listener is None or not self.steering.migrates or not others:
            return None
        try:
            report = cycle(listener, owners, self.observer, self.bind.address, same=same)
        except UsageError:
            return None  # workers have shut down this one, or all others
        self.steering.rejoin(slot, listener)
        return report

    @property
    def counting(self) -> bool:
        """The program counts what it gives to each slot."""
        return bool(counts_of(self.steering))

    def counts(self) -> dict[int | None, Counts]:
        """What each slot has got since it joined, as in Counting, without our own questions."""
        return {
            slot: count - Counts(new=0 if slot is None else self.ours[slot])
            for slot, count in counts_of(self.steering).items()
        }

    def give_backlog(self, slot: int, wanted: Callable[[int], int | None]) -> None:
        """Listen again with the backlog that is ``wanted`` of a listener that has this one.

        What waits there stays.  Does nothing if None is wanted, or if the listener was shut down.
        Raises KernelError.
        """
        listener = self.sockets[slot]
        info = info_of(listener) if is_listening(listener) else None
        backlog = None if info is None else wanted(info.sacked)
        if backlog is not None:
            try:
                listener.listen(backlog)
            except OSError as error:
                doing = f"giving a listener at {self.bind.address} its backlog"
                raise KernelError("listen", error.errno or 0, doing) from error

    def selected(self, slot: int) -> int:
        """How many connections of others the program has given to this slot.

        0 if it does not count.
        """
        count = counted_of(self.steering, slot)
        return max(0, count.new + count.migrated - self.ours[slot])

    def half_open(self) -> int:
        """How many half-open requests there are at this port."""
        address = self.bind.address
        return len(self.observer.diag.half_open(address.port, address.family))

    @property
    def cookies(self) -> frozenset[int]:
        """The cookies of all listeners held here."""
        return frozenset(cookie(listener) for listener in self.sockets.values())

    def cookies_by_slot(self) -> dict[int, int]:
        """The same, by slot."""
        return {slot: cookie(listener) for slot, listener in self.sockets.items()}

    def end(self) -> tuple[list[str], int]:
        """Stop every listener that was ever held here: see ``inherited.end``."""
        return inherited.end(
            self.bind.address, self.opened, list(self.sockets.values()), self.observer
        )

    def close(self) -> None:
        """Close every descriptor.  Listeners stay open in workers that have them."""
        self._let_incumbents_go()
        for listener in self.sockets.values():
            listener.close()
        self.sockets.clear()
        self.steering.close()
