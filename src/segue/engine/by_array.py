"""The steering of an object that knows only its array of listeners, not Segue's table.

The array holds only the listeners that have a share, at 0 to n - 1.  So an object that was written
for another loader, such as ``hash % 4`` with four workers, works through restarts: a listener that
is not ready yet, or that drains, is not there to be selected.  Such listeners wait in an array of
our own, from which only a pin selects.

A flip is one write for each listener: a new one takes the place of an old one.  In between both
generations get connections, and both serve them.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence

from segue.engine.loaded_object import LoadedObject
from segue.engine.own_member import OwnMember, able
from segue.engine.refusal import Refusal
from segue.engine.sockarray import put
from segue.errors import UsageError
from segue.linux.bpf import attach_reuseport
from segue.linux.bpf_maps import Map
from segue.linux.closing import Closing
from segue.linux.sockopt import is_listening, stop_listening
from segue.policy import builtin
from segue.policy.builtin import encode_number
from segue.policy.object import WAITING, ObjectPolicy
from segue.shares import quotas


def places(before: Mapping[int, int], wanted: Collection[int]) -> dict[int, int]:
    """Which slot goes where: 0 to n - 1, moving as few as can be; newcomers fill the gaps."""
    kept = {slot: before[slot] for slot in wanted if before.get(slot, len(wanted)) < len(wanted)}
    gaps = (place for place in range(len(wanted)) if place not in set(kept.values()))
    return kept | dict(zip(sorted(set(wanted) - kept.keys()), gaps, strict=True))


class ByArray(Closing):
    """Steering of one group by an object's program; owns what it has made of the object.

    Listeners are remembered from ``join`` to ``leave``, for they change arrays.
    """

    name = "migrate"
    migrates = True
    weighs = False
    own_port = 0

    def __init__(self, policy: ObjectPolicy) -> None:
        """Raises KernelError (EPERM without CAP_BPF), VerifierError."""
        self._loaded = LoadedObject(policy)
        assert self._loaded.waiting is not None
        self._sockets, self._waiting = self._loaded.sockets, self._loaded.waiting
        self._listeners: dict[int, socket.socket] = {}
        self._places: dict[int, int] = {}  # slot -> place in the object's array
        self._shared: set[int] = set()
        self._pinned: dict[int, int] = {}  # port -> slot

    def join(self, slot: int, listener: socket.socket) -> None:
        """As in Steering; the program decides for the group from here on.

        What a crashed supervisor left is replaced as by Migrate.  Raises KernelError: EINVAL when
        the socket is not listening with SO_REUSEPORT, EBUSY when a living program keeps it.
        """
        if not 0 <= slot < builtin.SLOTS:
            raise UsageError(f"a slot must be between 0 and {builtin.SLOTS - 1} (got {slot})")
        if slot in self._listeners:
            raise UsageError(f"slot {slot} has a listener already")
        self._put(self._waiting, slot, listener)
        try:
            self.attach(listener)
        except BaseException:
            self._waiting.delete(encode_number(slot))
            raise
        self._listeners[slot] = listener

    def attach(self, listener: socket.socket) -> None:
        """Our program decides for this listener's group.  Raises KernelError."""
        with able(listener) as member:
            attach_reuseport(member.fileno(), self._loaded.program.fileno())

    def refuse(self, listeners: Sequence[socket.socket]) -> bool:
        """As in Refusing."""
        with Refusal({}) as refusal, able(listeners[0]) as member:
            attach_reuseport(member.fileno(), refusal.program.fileno())
        return True

    def look_after(self, own: OwnMember) -> bool | None:
        """As in Steering, by a pin to one that waits.  Raises KernelError, OSError."""
        free = max(slot for slot in range(builtin.SLOTS) if slot not in self._listeners)
        port = encode_number(own.port)
        self._waiting.update(encode_number(free), builtin.encode_socket(own.listener.fileno()))
        try:
            self._loaded.pins.update(port, encode_number(WAITING + free))
            return own.reached(lambda: self.attach(own.listener))
        finally:
            self._loaded.pins.delete(port)
            self._waiting.delete(encode_number(free))

    def share(self, weights: Mapping[int, float]) -> None:
        """As in Steering, and every weight above zero is the same share.

        A member whose listener was shut down gets its share when it rejoins.
        """
        strangers = sorted(slot for slot in weights if slot not in self._listeners)
        if strangers:
            raise UsageError(f"slot {strangers[0]} has no listener, so it can have no share")
        quotas(weights)  # refuses senseless weights before anything changes
        self._shared = {slot for slot, weight in weights.items() if weight > 0}
        self._spread()

    def _spread(self) -> None:
        """Make the object's array hold those that have a share and listen, and no other."""
        wanted = [slot for slot in self._shared if is_listening(self._listeners[slot])]
        after = places(self._places, wanted)
        # Never more than are there: an object that trusts the number never selects an empty slot.
        self._loaded.set_live(min(len(after), len(self._places)))
        for slot, place in after.items():
            if self._places.get(slot) != place or not _has(self._sockets, place):
                self._take_out(slot)
                self._put(self._sockets, place, self._listeners[slot])
                self._places = {
                    other: where for other, where in self._places.items() if where != place
                } | {slot: place}
        for slot in self._places.keys() - after.keys():
            self._take_out(slot)
        self._loaded.set_live(len(after))
        for slot, listener in self._listeners.items():
            if slot not in after and is_listening(listener) and not _has(self._waiting, slot):
                self._put(self._waiting, slot, listener)

    def _put(self, array: Map, place: int, listener: socket.socket) -> None:
        put(array, place, listener, lambda: self.attach(listener))

    def _take_out(self, slot: int) -> None:
        """Of whichever array its listener is in."""
        self._waiting.delete(encode_number(slot))
        place = self._places.pop(slot, None)
        if place is not None:
            self._sockets.delete(encode_number(place))

    def pin(self, port: int, slot: int) -> None:
        """As in Steering.  Raises KernelError: E2BIG beyond 64 pins."""
        if slot not in self._listeners:
            raise UsageError(f"slot {slot} has no listener, so port {port} cannot be pinned to it")
        if not 0 < port < 65536:
            raise UsageError(f"a port must be between 1 and 65535 (got {port})")
        place = self._places.get(slot, WAITING + slot)
        self._loaded.pins.update(encode_number(port), encode_number(place))
        self._pinned[port] = slot

    def unpin(self, port: int) -> None:
        """As in Steering."""
        self._loaded.pins.delete(encode_number(port))
        self._pinned.pop(port, None)

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        """As in Steering; also attaches the program, which the only member of a group loses."""
        if slot not in self._listeners:
            raise UsageError(f"slot {slot} never joined")
        self._listeners[slot] = listener
        self._spread()
        self.attach(listener)

    def leave(self, slot: int, listener: socket.socket, *, end: bool = False) -> None:
        """As in Steering.  Its share goes to the others, its pins are forgotten."""
        with listener:
            if self._listeners.pop(slot, None) is None:
                return
            for port in [port for port, to in self._pinned.items() if to == slot]:
                self.unpin(port)
            if slot in self._shared:
                self._shared.remove(slot)
                self._spread()
            self._take_out(slot)
            if end:
                stop_listening(listener)

    def variables(self) -> dict[str, int]:
        """As in KeepingVariables."""
        return self._loaded.variables()

    def close(self) -> None:
        """As in Steering; twice is no error."""
        self._loaded.close()


def _has(array: Map, place: int) -> bool:
    """A listener is there; the kernel removes one that is shut down."""
    return array.lookup(encode_number(place)) is not None
